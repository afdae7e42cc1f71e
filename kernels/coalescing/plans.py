"""The ways in which a nest may be scheduled anew, and how each is applied. All are steps of TVM's own scheduler, which
refuses those that would change what is computed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tvm.s_tir import Schedule

from kernels.coalescing.nests import is_reduction, loads, stores
from kernels.launch_plan import ITEM_BYTES

WARP = 32

_TILES = (32, 16)
"""Rows and columns of a tile of a transposition: rows of two sectors or more; odd extents waste less of a small one."""

_CHUNK = 32
"""Steps of a reduction whose operands are staged at once."""

_VECTOR_BYTES = 16
MOST_STAGED = 16 * 1024
"""Bytes of shared memory that staging may take: every device has them, and occupancy does not suffer."""


@dataclass(frozen=True)
class Plan:
    """`innermost`: the spatial iteration variable whose neighbours go to neighbouring threads. `tiled`: a second one,
    with which it is cut into tiles of `tile` times `tile` (-1: none). `staged`: the operands that are copied to shared
    memory, by their number among the block's reads; a padding of `pad` elements keeps the rows of their copies apart.
    `vector`: elements that a thread takes at once. `register`: a reduction is summed in a register."""

    innermost: int
    threads: int
    tiled: int = -1
    staged: tuple[int, ...] = ()
    pad: int = 0
    vector: int = 1
    register: bool = False
    tile: int = 0

    def to_text(self) -> str:
        parts = [f"innermost={self.innermost}", f"threads={self.threads}"]
        parts += [f"tiled={self.tiled} tile={self.tile}"] if self.tiled >= 0 else []
        parts += [f"staged={'+'.join(map(str, self.staged))}", f"pad={self.pad}"] if self.staged else []
        parts += [f"vector={self.vector}"] if self.vector > 1 else []
        return " ".join([*parts, *(["register"] if self.register else [])])


def plans(block: Any, threads: int) -> Iterator[Plan]:
    """The plans worth counting for a block that now runs with so many threads."""
    extents = [int(v.dom.extent) for v in block.iter_vars]
    spatial = [n for n, v in enumerate(block.iter_vars) if not is_reduction(v) and extents[n] > 1]
    reduces = any(map(is_reduction, block.iter_vars))
    single = len(stores(block)) == 1
    wanted = threads if threads >= WARP else max(threads, min(128, -(-math.prod(extents) // WARP) * WARP))
    for innermost in spatial or [next((n for n, v in enumerate(block.iter_vars) if not is_reduction(v)), 0)]:
        plan = Plan(innermost, wanted, register=reduces and single)
        yield plan
        if not reduces and _vectors(block):
            for vector in (4, 2):
                if extents[innermost] % vector == 0 and wanted // vector >= WARP:
                    yield replace(plan, vector=vector)
        operands = _stageable(block)
        if not operands:
            continue
        if reduces:
            yield replace(plan, threads=min(wanted, 64), staged=operands, pad=1)
        else:
            for other in spatial:
                if other != innermost and min(extents[other], extents[innermost]) > 1:
                    for number, tile in itertools.product(operands, _TILES):
                        yield Plan(innermost, wanted, other, (number,), 1, tile=tile)


def _vectors(block: Any) -> bool:
    """Whether elements are worth taking several at once: OpenCL's code generator has no vectors of computed bytes."""
    buffers = [region.source for region in (*block.reads, *block.writes)]
    return all(ITEM_BYTES[str(buffer.dtype)] > 1 for buffer in buffers)


def _stageable(block: Any) -> tuple[int, ...]:
    """The reads that may be copied: of buffers that the block does not write, at indices that depend on no data."""
    written = [store.buffer for store in stores(block)]
    found = []
    for number, region in enumerate(block.reads):
        of_buffer = [
            load for store in stores(block) for load in loads(store.value) if load.source.same_as(region.source)
        ]
        known = not any(loads(index) for load in of_buffer for index in load.indices)
        if of_buffer and known and not any(region.source.same_as(buffer) for buffer in written):
            found.append(number)
    return tuple(found)


def apply(schedule: Schedule, name: str, plan: Plan) -> None:
    """Schedule a block that is in serial loops over its own iteration variables. Raises what TVM raises where a step is
    not legal."""
    block = schedule.get_sblock(name)
    variables = schedule.get(block).iter_vars
    loops = schedule.get_loops(block)
    spatial = [loop for n, loop in enumerate(loops) if not is_reduction(variables[n]) and n != plan.innermost]
    reduce = [loop for loop, v in zip(loops, variables, strict=True) if is_reduction(v)]
    if plan.tiled >= 0:
        _tiles(schedule, block, loops, plan)
        return
    innermost = [loops[plan.innermost]] if not is_reduction(variables[plan.innermost]) else []
    spatial += innermost
    if not spatial:
        spatial = [schedule.add_unit_loop(block)]
    schedule.reorder(*spatial, *reduce)
    if plan.register:  # while each loop still is one variable: TVM copies more than was computed where it must guess
        schedule.reverse_compute_at(schedule.cache_write(block, 0, "local"), spatial[-1])
    factors = [None, plan.threads // plan.vector, *([plan.vector] if plan.vector > 1 else [])]
    outer, thread, *inner = schedule.split(schedule.fuse(*spatial), factors)
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    if inner:
        schedule.vectorize(inner[0])
    if plan.staged:
        last = schedule.get_loops(block)[2 + len(reduce) - 1]
        chunk, _ = schedule.split(last, [None, _CHUNK])
        for number in plan.staged:
            _stage(schedule, block, number, chunk, plan)


def _tiles(schedule: Schedule, block: Any, loops: list[Any], plan: Plan) -> None:
    """Two loops cut into tiles, each staged whole; a thread takes every n-th row of it."""
    others = [loop for n, loop in enumerate(loops) if n not in (plan.innermost, plan.tiled)]
    row, row_of_tile = schedule.split(loops[plan.tiled], [None, plan.tile])
    column, column_of_tile = schedule.split(loops[plan.innermost], [None, plan.tile])
    schedule.reorder(*others, row, column, row_of_tile, column_of_tile)
    outer = schedule.fuse(*others, row, column)
    schedule.bind(outer, "blockIdx.x")
    _, thread = schedule.split(schedule.fuse(row_of_tile, column_of_tile), [None, plan.threads])
    schedule.bind(thread, "threadIdx.x")
    for number in plan.staged:
        _stage(schedule, block, number, outer, plan)


def _stage(schedule: Schedule, block: Any, number: int, at: Any, plan: Plan) -> None:
    """Copy an operand to shared memory in the order in which it lies, all threads together."""
    buffer = schedule.get(block).reads[number].source
    copied = schedule.cache_read(block, number, "shared")
    schedule.compute_at(copied, at)
    around = len(schedule.get_loops(block)[: _depth(schedule, block, at)])
    mine = schedule.get_loops(copied)[around:]
    if not mine:
        mine = [schedule.add_unit_loop(copied)]
    _, thread = schedule.split(schedule.fuse(*mine), [None, plan.threads])
    schedule.bind(thread, "threadIdx.x")
    if plan.pad and len(buffer.shape) > 1:
        schedule.storage_align(copied, 0, -2, 32 * 4 // ITEM_BYTES[str(buffer.dtype)], plan.pad)


def _depth(schedule: Schedule, block: Any, at: Any) -> int:
    wanted = schedule.get(at)
    loops = [schedule.get(loop) for loop in schedule.get_loops(block)]
    return next(n for n, loop in enumerate(loops) if loop.same_as(wanted)) + 1
