"""What the warm process imports before workers are forked from it."""

import gc

from kernels.metaschedule import meta_schedule

meta_schedule()
# What is loaded now stays: without this each child's collector walks (and unshares) all of it, a twentieth of a build.
gc.collect()
gc.freeze()
