"""Our sketch rule for matrix products whose right operand lies in panels, in the order in which it is read.

A panel holds some columns: B[..., column // b, k, column % b], one to four vectors wide. It is a constant of the model
that was stored this way, or the kernel's first stage makes it of another tensor. Nothing else is copied: an order
that prefetchers can follow makes a product with a cold right operand as fast as with a hot one.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from kernels.space.constraints import MAX_LANES

_MAX_ROWS = 28


def schedule_panels(schedule: Schedule) -> bool:
    """Schedule C[..., i, j] += A[..., i, k] * B[..., j // b, k, j % b], and what follows it element by element.

    False, with the schedule as it was, where the program is not of this kind.
    """
    blocks = schedule.get_child_blocks(schedule.get_sblock("root", func_name="main"))
    widths = [panel_width(schedule.get(b)) for b in blocks]
    at = next((n for n, width in enumerate(widths) if width), None)
    if at is None or at > 1 or not all(_element_wise(schedule.get(b)) for n, b in enumerate(blocks) if n != at):
        return False
    product, following = blocks[at], blocks[at + 1 :]
    written = following[-1] if following else schedule.cache_write(product, 0, "global")
    for block in following[:-1]:
        schedule.compute_inline(block)
    *batch, i, j, k = schedule.get_loops(product)
    i0, i1, i2 = schedule.split(i, schedule.sample_perfect_tile(i, 3, _MAX_ROWS))
    j0, j1, j2 = schedule.split(j, schedule.sample_perfect_tile(j, 3, min(widths[at], MAX_LANES)))
    schedule.reorder(*batch, i0, j0, j1, i1, k, i2, j2)
    schedule.parallel(schedule.fuse(*batch, i0, j0))
    schedule.reverse_compute_at(written, i1, preserve_unit_loops=True)
    for block in blocks[:at]:
        schedule.compute_at(block, j1, preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(block)[-1])
    schedule.unroll(i2)
    schedule.vectorize(j2)
    schedule.vectorize(schedule.get_loops(written)[-1])
    return True


def panel_width(block: Any) -> int:
    """Columns of a panel where a block is C[..., i, j] += A[..., i, k] * B[..., j // b, k, j % b]; otherwise 0."""
    kinds = [int(v.iter_type) for v in block.iter_vars]
    if len(kinds) < 3 or kinds != [IterVar.DataPar] * (len(kinds) - 1) + [IterVar.CommReduce] or len(block.reads) != 2:
        return 0
    *_, j, k = (v.var for v in block.iter_vars)
    right = block.reads[1]
    if len(right.region) < 3:
        return 0
    *_, panel, step, lane = (r.min for r in right.region)
    if not step.same_as(k) or not isinstance(lane, tirx.FloorMod) or not isinstance(panel, tirx.FloorDiv):
        return 0
    return int(lane.b) if lane.a.same_as(j) and panel.a.same_as(j) else 0


def _element_wise(block: Any) -> bool:
    return all(int(v.iter_type) == IterVar.DataPar for v in block.iter_vars)
