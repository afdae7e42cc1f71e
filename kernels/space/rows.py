"""Our sketch of programs that reduce rows: softmax, normalization, sums.

Rows are shared out among the threads, and all that happens to one row happens while it is in the first-level cache.
TVM's rules leave a row's reduction a chain of scalar additions, which the compiler may not reorder. Here its elements
are dealt out to the lanes of some vectors, each of which adds its own, and the lanes are added up at the end: first
vector to vector, then lane to lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from kernels.reference.expressions import subexpressions

_MAX_LANES = 64
_VECTOR = 16


def schedule_rows(schedule: Schedule) -> bool:
    """Schedule a program of row reductions around one output. False, with nothing to be used, where it is none."""
    root = schedule.get_sblock("root", func_name="main")
    blocks = schedule.get_child_blocks(root)
    kinds = [_kinds(schedule.get(b)) for b in blocks]
    if not any(k.endswith("R") for k in kinds) or any("R" in k[:-1] or not k for k in kinds):
        return False
    if [len(schedule.get_consumers(b)) == 0 for b in blocks] != [False] * (len(blocks) - 1) + [True]:
        return False
    reductions = [block for block, kind in zip(blocks, kinds, strict=True) if kind.endswith("R")]
    if not all(_along_rows(schedule.get(block)) for block in reductions):
        return False
    output = blocks[-1]
    for block, kind in zip(blocks[:-1], kinds, strict=False):
        if "R" not in kind and not _is_dear(schedule.get(block)):
            schedule.compute_inline(block)
    partial = [lanes for block in reductions for lanes in _deal_out(schedule, block)]
    ordered = schedule.get_child_blocks(root)
    loops = schedule.get_loops(output)
    if len(loops) < 2:
        return False
    row = schedule.fuse(*loops[:-1]) if len(loops) > 2 else loops[0]
    schedule.parallel(row)
    for block in reversed(ordered[:-1]):
        schedule.compute_at(block, row, preserve_unit_loops=True)
    for block in partial:  # a loop for each of its variables: lanes, rows (one step), what is left of the reduction
        _, lanes, *steps = schedule.get_loops(block)
        schedule.reorder(*reversed(steps), lanes)
        schedule.vectorize(lanes)
    for block in ordered:
        if "R" not in _kinds(schedule.get(block)):
            _vectorize(schedule, schedule.get_loops(block)[1:])
    return True


def _deal_out(schedule: Schedule, block: Any) -> list[Any]:
    """Cut a reduction in three: into lanes of several vectors, those into one vector, its lanes into the result.

    Answers the first two, whose first variable is the lane.
    """
    loop = schedule.get_loops(block)[-1]
    steps, _, vector = schedule.sample_perfect_tile(loop, 3, _VECTOR)
    _, lanes = schedule.split(loop, [steps, None])
    made = [schedule.rfactor(lanes, len(schedule.get(block).writes[0].region))]
    _, lanes = schedule.split(schedule.get_loops(block)[-1], [None, vector])
    made.append(schedule.rfactor(lanes, len(schedule.get(block).writes[0].region)))
    return made


def _vectorize(schedule: Schedule, loops: Sequence[Any]) -> None:
    if loops:
        _, lanes = schedule.split(loops[-1], schedule.sample_perfect_tile(loops[-1], 2, _MAX_LANES))
        schedule.vectorize(lanes)


def _along_rows(block: Any) -> bool:
    """Whether a reduction reads elements that lie next to each other, one after the other."""
    [reduced] = [v.var for v in block.iter_vars if int(v.iter_type) == IterVar.CommReduce]
    return all(region.region[-1].min.same_as(reduced) for region in block.reads)


def _kinds(block: Any) -> str:
    """One letter a block variable: S for spatial, R for reduction; empty when there is another kind."""
    letters = {IterVar.DataPar: "S", IterVar.CommReduce: "R"}
    kinds = [letters.get(int(v.iter_type)) for v in block.iter_vars]
    return "" if None in kinds else "".join(map(str, kinds))


def _is_dear(block: Any) -> bool:
    """Whether computing an element calls a function: too dear to do again wherever it is read."""
    return isinstance(block.body, tvm.tirx.BufferStore) and any(
        isinstance(e, tvm.ir.Call) for e in subexpressions(block.body.value)
    )
