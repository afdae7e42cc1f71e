"""What kernels are compiled for and measured on: a folder a kind of device; `resolve` has the one table of kinds."""
