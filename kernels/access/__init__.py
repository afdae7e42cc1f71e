"""What the warps of a thread-bound program ask of memory, counted without running it.

Global memory: sectors of 32 bytes. Shared memory: conflicts of 32 banks of 4 bytes. A guard is taken to hold for every
thread: where it does not, the count is an upper bound.
"""

from kernels.access.counting import BANKS, SECTOR_BYTES, count
from kernels.access.counts import Access, LaunchAccess
from kernels.access.lowering import access_form
from kernels.access.nests import FRAGMENTS, SWIZZLED, WARP, Unbound, launches
from kernels.access.summary import FEATURE_NAMES, analyze, counted, counted_in_chunks, counters, features, total

__all__ = [
    "BANKS",
    "FEATURE_NAMES",
    "FRAGMENTS",
    "SECTOR_BYTES",
    "SWIZZLED",
    "WARP",
    "Access",
    "LaunchAccess",
    "Unbound",
    "access_form",
    "analyze",
    "count",
    "counted",
    "counted_in_chunks",
    "counters",
    "features",
    "launches",
    "total",
]
