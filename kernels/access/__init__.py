"""What the warps of a thread-bound program ask of memory, counted without running it.

Global memory: sectors of 32 bytes. Shared memory: conflicts of 32 banks of 4 bytes. A guard is taken to hold for every
thread: where it does not, the count is an upper bound.
"""

from kernels.access.counting import BANKS, SECTOR_BYTES, WARP, count
from kernels.access.counts import Access, LaunchAccess
from kernels.access.lowering import access_form
from kernels.access.nests import Unbound, launches
from kernels.access.summary import FEATURE_NAMES, analyze, counted, counters, features, total

__all__ = [
    "BANKS", "FEATURE_NAMES", "SECTOR_BYTES", "WARP", "Access", "LaunchAccess", "Unbound", "access_form", "analyze",
    "count", "counted", "counters", "features", "launches", "total",
]  # fmt: skip
