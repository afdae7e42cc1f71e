"""Our sketch rule for softmax, layer norm and reductions: row after row, each stage while the row is in the cache.

TVM's rules vectorize no reduction, since another order of additions rounds differently. Here each lane of a vector
reduces its own share of the row, and the lanes are reduced at the end, as oneDNN does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from kernels.space.constraints import LEAST_LANES, MAX_LANES

MAX_ROWS = 512
"""Rows that a thread takes at once, at most."""


def schedule_rows(schedule: Schedule) -> bool:
    """Schedule a program of reductions over the end of each row, and of what is computed from them row by row.

    False, with the schedule as it was, where the program is not of this kind.
    """
    *inner, last = schedule.get_child_blocks(schedule.get_sblock("root", func_name="main"))
    inlined = [b for b in inner if not _axes(schedule.get(b))[1] and not _calls(schedule.get(b))]
    blocks = [block for block in [*inner, last] if block not in inlined]
    shapes = [_axes(schedule.get(block)) for block in blocks]
    shared = _prefix([spatial for spatial, _ in shapes])
    if not any(reduced for _, reduced in shapes) or math.prod(shared) == 1:
        return False
    if not all(_is_row(spatial[len(shared) :], reduced) for spatial, reduced in shapes):
        return False
    if not all(_reads_rows(schedule.get(block), shared) for block in blocks):
        return False
    for block in inlined:
        schedule.compute_inline(block)
    stages: list[tuple[str, Any]] = []
    tiles: dict[int, Sequence[Any]] = {}
    for block in blocks:
        if _axes(schedule.get(block))[1]:
            lane = _split(schedule, schedule.get_loops(block)[-1], tiles)
            stages += [("lanes", schedule.rfactor(lane, len(_axes(schedule.get(block))[0]))), ("sum", block)]
        else:
            stages.append(("elements", block))
    innermost = max(i for i, extent in enumerate(shared) if extent > 1)
    *before, rows = schedule.get_loops(last)[: innermost + 1]
    outer, row = schedule.split(rows, schedule.sample_perfect_tile(rows, 2, MAX_ROWS))
    schedule.parallel(schedule.fuse(*before, outer) if before else outer)
    for _, block in reversed(stages[:-1]):
        schedule.compute_at(block, row, preserve_unit_loops=True)
    for kind, block in stages:
        own = schedule.get_loops(block)[2:]
        if kind == "lanes":
            schedule.reorder(own[-1], own[0])
            schedule.vectorize(own[0])
        elif kind == "elements" and own and _is_vectorized(schedule.get(block), schedule.get(own[-1])):
            schedule.vectorize(_split(schedule, own[-1], tiles))
    return True


def _split(schedule: Schedule, loop: Any, tiles: dict[int, Sequence[Any]]) -> Any:
    """The inner loop of two; all loops of one extent are cut by one decision."""
    extent = int(schedule.get(loop).extent)
    if extent not in tiles:
        tiles[extent] = schedule.sample_perfect_tile(loop, 2, MAX_LANES)
    return schedule.split(loop, tiles[extent])[1]


def _axes(block: Any) -> tuple[list[int], list[int]]:
    """The extents of a block's spatial axes and of its reduced axes; both empty where they are not in this order."""
    kinds = [int(v.iter_type) for v in block.iter_vars]
    extents = [int(v.dom.extent) for v in block.iter_vars]
    spatial = kinds.count(IterVar.DataPar)
    if kinds != [IterVar.DataPar] * spatial + [IterVar.CommReduce] * (len(kinds) - spatial):
        return [], []
    return extents[:spatial], extents[spatial:]


def _prefix(shapes: Sequence[Sequence[int]]) -> list[int]:
    """The longest common beginning."""
    shared: list[int] = []
    for extents in zip(*shapes, strict=False):
        if len(set(extents)) > 1:
            break
        shared.append(extents[0])
    return shared


def _is_row(rest: Sequence[int], reduced: Sequence[int]) -> bool:
    """Whether a block's axes, without those of the rows, are elements, or one reduction that vectors divide."""
    return not reduced or (math.prod(rest) == 1 and _has_vectors(reduced[-1]))


def _has_vectors(extent: int) -> bool:
    return extent % LEAST_LANES == 0


def _is_vectorized(block: Any, loop: Any) -> bool:
    """Whether TVM should make vectors of an element-wise loop.

    Where no vector divides it, or where it branches, as padding does, TVM goes element by element, and LLVM does not.
    """
    return _has_vectors(int(loop.extent)) and "prim.if_then_else" not in _calls(block)


def _reads_rows(block: Any, shared: Sequence[int]) -> bool:
    """Whether a reduction reads only the elements of its own row, along the row; a matrix product does not."""
    if not _axes(block)[1]:
        return True
    rows = [v.var for v, extent in zip(block.iter_vars, shared, strict=False) if extent > 1]
    along = block.iter_vars[-1].var
    indices = [[r.min for r in read.region] for read in block.reads]
    return all(_among(row, index) for index in indices for row in rows) and not any(
        _among(along, index[:-1]) for index in indices
    )


def _among(variable: Any, index: Sequence[Any]) -> bool:
    return any(i.same_as(variable) for i in index)


def _calls(block: Any) -> set[str]:
    """The functions that a block calls. Such a block should be computed once instead of wherever it is used."""
    calls: list[Any] = []
    tvm_ffi.structural_walk(block.body, (tvm.ir.Call, calls.append))
    return {str(getattr(call.op, "name", "")) for call in calls}
