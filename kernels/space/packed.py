"""Our sketch rule for matrix products: the right operand is copied, panel by panel, in the order in which it is read.

After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008). Read in place, each step of the
reduction is on another page, and extents that are powers of two put all rows of a panel into the same few sets of
the cache. Copying the left operand as well, transposed, was half as fast.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from kernels.space.constraints import MAX_LANES

_MAX_ROWS = 16


def schedule_packed(schedule: Schedule) -> bool:
    """Schedule a product C[..., i, j] += A[..., i, k] * B[..., k, j] with panels of B copied.

    False, with the schedule as it was, where the program does not begin with one.
    """
    root = schedule.get_sblock("root", func_name="main")
    blocks = schedule.get_child_blocks(root)
    if [_is_product(schedule.get(b)) for b in blocks] != [True] + [False] * (len(blocks) - 1):
        return False
    block = blocks[0]
    *batch, i, j, k = schedule.get_loops(block)
    written = schedule.cache_write(block, 0, "global")
    while consumers := schedule.get_consumers(written):
        schedule.reverse_compute_inline(consumers[0])
    panel = schedule.cache_read(block, 1, "global")
    i0, i1, i2 = schedule.split(i, schedule.sample_perfect_tile(i, 3, _MAX_ROWS))
    j0, j1, j2 = schedule.split(j, schedule.sample_perfect_tile(j, 3, MAX_LANES))
    k0, k1 = schedule.split(k, schedule.sample_perfect_tile(k, 2, 64))
    schedule.reorder(*batch, i0, j0, j1, i1, k0, k1, i2, j2)
    outer = schedule.fuse(*batch, i0, j0)
    schedule.parallel(outer)
    schedule.compute_at(panel, j1, preserve_unit_loops=True)
    schedule.reverse_compute_at(written, i1, preserve_unit_loops=True)
    schedule.unroll(i2)
    schedule.vectorize(j2)
    for copy in (written, panel):
        schedule.vectorize(schedule.get_loops(copy)[-1])
    return True


def _is_product(block: Any) -> bool:
    """Whether a block is C[..., i, j] += A[..., i, k] * B[..., k, j]."""
    kinds = [int(v.iter_type) for v in block.iter_vars]
    if len(kinds) < 3 or kinds != [IterVar.DataPar] * (len(kinds) - 1) + [IterVar.CommReduce] or len(block.reads) != 2:
        return False
    *batch, i, j, k = (v.var for v in block.iter_vars)
    wanted = ((*batch, i, k), (*batch, k, j))
    return all(
        len(region.region) == len(axes)
        and all(r.min.same_as(a) and int(r.extent) == 1 for r, a in zip(region.region, axes, strict=True))
        for region, axes in zip(block.reads, wanted, strict=True)
    )
