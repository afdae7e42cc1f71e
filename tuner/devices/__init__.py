"""What kernels are compiled for and measured on: a folder a kind of device, and `resolve` with the one table of them."""
