"""What the fork server imports before workers are forked from it."""

import gc

from kernels.metaschedule import meta_schedule

meta_schedule()
# Without this each child's garbage collector walks, and so unshares, everything loaded: a twentieth of a build.
gc.collect()
gc.freeze()
