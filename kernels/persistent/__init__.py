"""Launches whose thread blocks stay on the device and walk over their tiles, or over parts of them.

| module | has |
|---|---|
| launches | the launches of a scheduled program: grid, tile, and how many blocks of them are resident |
| walk | persistent blocks: each computes several tiles, one after the other |
| sums | the sum that a tile is, taken apart: what makes a part of its steps and a part of its result right |
| cover | whether a step writes all that it reads, looked at element by element |
| stream | stream-K: the steps of all tiles divided evenly; a second launch adds the parts of a tile in their order |
| pending | whether asynchronous copies have arrived when a tile ends |
"""

from kernels.persistent.launches import Refused, idle
from kernels.persistent.stream import streamed
from kernels.persistent.walk import walked

__all__ = ["Refused", "idle", "streamed", "walked"]
