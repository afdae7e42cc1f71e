"""What the warm process imports before workers are forked from it."""

from kernels.warm import meta_schedule

meta_schedule()
