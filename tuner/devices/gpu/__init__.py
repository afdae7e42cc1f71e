"""What every GPU's device does alike: the rules of timing, the child that checks and times kernels, its bench."""
