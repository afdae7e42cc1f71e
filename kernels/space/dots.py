"""Our sketch rules for products of narrow numbers, by the CPU's dot-product instructions.

The right operand, or the weight of a convolution, stands with the steps of the reduction that an instruction sums side
by side. A tile of rows (of pixels) by vectors of columns (of channels) is accumulated in registers; a step broadcasts
one word of each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from kernels import tile_intrinsics
from kernels.amx import MOST_ROWS, ROWS, TileProduct, tiles_of
from kernels.dots import DOTS, MARK, Dot, dot_of, parsed
from kernels.space.data import Candidate, Sketch
from kernels.space.decision import Decision
from kernels.space.tiles import divisors, nearest

RULES = ("dot_panels", "dot_convolution")
TILE_RULE = "tile_panels"

_MAX_ROWS = 28
_MAX_VECTORS = 4
_MAX_STEPS = 8
"""Instructions along the reduction that are unrolled, at most."""

_MOST_PANELS = 64
"""Panels that a thread goes through with the same rows, at most."""

_COPIED = 64
"""Elements of a vector of a stage that copies an operand, at most."""


def schedule_dot_panels(schedule: Schedule, dots: Sequence[Dot]) -> bool:
    """Schedule C[..., i, j] += A[..., i, k] * B[..., j // b, k // s, j % b, k % s], and what follows it.

    False, with the schedule as it was, where the program is not of this kind.
    """
    found = _found(schedule, dots)
    if found is None:
        return False
    before, product, following, instruction = found
    dot, *_ = parsed(instruction)
    loops = schedule.get_loops(product)
    if _reduced(schedule.get(product)) != 1 or len(loops) < 3:
        return False
    written = _written(schedule, product, following)
    *batch, i, j, k = loops
    j, lanes = schedule.split(j, [None, dot.lanes])
    k, steps = schedule.split(k, [None, dot.steps])
    i0, i1, i2 = schedule.split(i, schedule.sample_perfect_tile(i, 3, _MAX_ROWS))
    j0, j1, j2 = schedule.split(j, schedule.sample_perfect_tile(j, 3, _MAX_VECTORS))
    k0, k1 = schedule.split(k, schedule.sample_perfect_tile(k, 2, _MAX_STEPS))
    schedule.reorder(*batch, i0, j0, j1, i1, k0, k1, i2, j2, steps, lanes)
    schedule.parallel(schedule.fuse(*batch, i0, j0))
    for loop in (k1, i2, j2):
        schedule.unroll(loop)
    _mark(schedule, product, k0, instruction)
    _store(schedule, written, i1)
    _before(schedule, product, before, j1)
    return True


def _before(schedule: Schedule, product: Any, before: Sequence[Any], panel: Any) -> None:
    """Make panels where the loop `panel` needs them, and copies of the left operand at first."""
    right = schedule.get(product).reads[-1].source
    for block in before:
        if schedule.get(block).writes[0].source.same_as(right):
            schedule.compute_at(block, panel, preserve_unit_loops=True)
            _vectorize(schedule, schedule.get_loops(block)[-1])
        else:
            _copy(schedule, block)


def schedule_tile_panels(schedule: Schedule, tiles: Sequence[TileProduct]) -> bool:
    """Schedule a product as `schedule_dot_panels` does, by tile products over the whole reduction.

    False, with the schedule as it was, where the program is not of this kind.
    """
    found = _found(schedule, [dot for dot in DOTS if dot.name in {tile.dot for tile in tiles}])
    if found is None:
        return False
    before, product, following, instruction = found
    dot, left, right = parsed(instruction)
    loops = schedule.get_loops(product)
    if _reduced(schedule.get(product)) != 1 or len(loops) < 3:
        return False
    *batch, i, j, k = loops
    if not any(tiles_of(rows) for rows in divisors(int(schedule.get(i).extent))):
        return False
    written = _written(schedule, product, following)
    j, lanes = schedule.split(j, [None, dot.lanes])
    i0, i1, i2 = schedule.split(i, schedule.sample_perfect_tile(i, 3, MOST_ROWS))
    j0, j1 = schedule.split(j, schedule.sample_perfect_tile(j, 2, _MOST_PANELS))
    schedule.reorder(*batch, i0, j0, j1, i1, i2, lanes, k)
    schedule.parallel(schedule.fuse(*batch, i0, j0))
    tile = next(tile for tile in tiles if tile.dot == dot.name)
    schedule.annotate(product, tile_intrinsics.MARK, f"{tile.name}.{left}.{right}")
    _store(schedule, written, i1)
    _before(schedule, product, before, j1)
    return True


def schedule_dot_convolution(schedule: Schedule, dots: Sequence[Dot]) -> bool:
    """Schedule C[n, o, y, x, j] += A[n, c, y + ky, x + kx, k] * B[o, c, ky, kx, k // s, j, k % s], and what follows it.

    False, with the schedule as it was, where the program is not of this kind.
    """
    found = _found(schedule, dots)
    if found is None:
        return False
    before, product, following, instruction = found
    dot, *_ = parsed(instruction)
    loops = schedule.get_loops(product)
    if _reduced(schedule.get(product)) != 4 or len(loops) != 9:
        return False
    written = _written(schedule, product, following)
    n, o, y, x, j, *reduction, k = loops
    j, lanes = schedule.split(j, [None, dot.lanes])
    k, steps = schedule.split(k, [None, dot.steps])
    o0, o1, o2 = schedule.split(o, schedule.sample_perfect_tile(o, 3, _MAX_VECTORS))
    y0, y1, y2 = schedule.split(y, schedule.sample_perfect_tile(y, 3, _MAX_ROWS))
    x0, x1, x2 = schedule.split(x, schedule.sample_perfect_tile(x, 3, _MAX_ROWS))
    schedule.reorder(n, o0, y0, x0, o1, y1, x1, *reduction, k, y2, x2, o2, j, steps, lanes)
    schedule.parallel(schedule.fuse(n, o0, y0, x0))
    for loop in (y2, x2, o2, j):
        schedule.unroll(loop)
    _mark(schedule, product, reduction[0], instruction)
    _store(schedule, written, x1)
    for block in before:
        _copy(schedule, block)
    return True


def _found(schedule: Schedule, dots: Sequence[Dot]) -> tuple[list[Any], Any, list[Any], str] | None:
    """The blocks before the one that dot products compute, it, those after it, and the instruction; None without it."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root", func_name="main"))
    fitting = [dot_of(schedule.get(b), dots) for b in blocks]
    at, instruction = next(((n, name) for n, name in enumerate(fitting) if name), (-1, None))
    if instruction is None or any(_reduced(schedule.get(b)) for n, b in enumerate(blocks) if n != at):
        return None
    return blocks[:at], blocks[at], blocks[at + 1 :], instruction


def _reduced(block: Any) -> int:
    return sum(int(v.iter_type) == IterVar.CommReduce for v in block.iter_vars)


def _written(schedule: Schedule, product: Any, following: Sequence[Any]) -> Any:
    """The block that writes the output of the program, with what is between inlined into it."""
    for block in following[:-1]:
        schedule.compute_inline(block)
    return following[-1] if following else schedule.cache_write(product, 0, "global")


def _mark(schedule: Schedule, product: Any, reduction: Any, instruction: str) -> None:
    schedule.annotate(product, MARK, instruction)
    schedule.annotate(reduction, MARK, 1)


def _store(schedule: Schedule, written: Any, loop: Any) -> None:
    """Write a tile as soon as it is complete."""
    schedule.reverse_compute_at(written, loop, preserve_unit_loops=True)
    schedule.vectorize(schedule.get_loops(written)[-1])


def _copy(schedule: Schedule, block: Any) -> None:
    """A stage that makes an operand, all of it at first."""
    *outer, last = schedule.get_loops(block)
    if outer:
        schedule.parallel(schedule.fuse(*outer[:-1]) if len(outer) > 1 else outer[0])
    _vectorize(schedule, last)


def _vectorize(schedule: Schedule, loop: Any) -> None:
    """Vectors along a loop, where they divide it."""
    lanes = max(d for d in divisors(int(schedule.get(loop).extent)) if d <= _COPIED)
    if lanes & (lanes - 1) == 0 and lanes > 1:
        schedule.vectorize(schedule.split(loop, [None, lanes])[1])


def candidates(sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
    """Initial candidates: the tiles that load least for each instruction, with whole reductions inside."""
    if sketch.rule == TILE_RULE:
        return _of_tiles(sketch)
    return _of_panels(sketch) if sketch.rule == "dot_panels" else _of_convolution(sketch)


def _of_tiles(sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
    """Many rows for each tile of the right operand that is loaded, in tiles that are nearly full."""
    rows, panels = sketch.knobs
    for height in divisors(rows.extent):
        tiles, blocks = tiles_of(height), rows.extent // height
        if tiles is None:
            continue
        loads = (tiles + 1) / tiles * (tiles * ROWS / height)
        for inside in {d for d in (1, panels.extent) if d <= _MOST_PANELS}:
            for rank, divided in enumerate(dict.fromkeys(n for n in (1, 2, blocks) if blocks % n == 0)):
                decisions: tuple[Decision, ...] = (
                    (divided, blocks // divided, height),
                    (panels.extent // inside, inside),
                )
                yield 0.1 * loads + 0.1 * rank + 0.05 * (inside > 1) - 1.35, Candidate(sketch.number, decisions)


def _of_panels(sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
    rows, columns, depth = sketch.knobs
    most = int(sketch.limits[0].most or 0)
    for vectors in (2, 1, 4, 3):
        if columns.extent % vectors:
            continue
        heights = [d for d in divisors(rows.extent) if d * vectors <= most]
        for height in heights[-2:]:
            tiles, panels = rows.extent // height, columns.extent // vectors
            loads = (height + vectors) / (height * vectors)
            for chunks in {panels, *(n for n in (2, 4, 8) if panels % n == 0)}:
                for rank, blocks in enumerate(n for n in (1, 2, tiles) if tiles % n == 0):
                    for steps in (1, 2, 4):
                        if depth.extent % steps:
                            continue
                        decisions: tuple[Decision, ...] = (
                            (blocks, tiles // blocks, height),
                            (chunks, panels // chunks, vectors),
                            (depth.extent // steps, steps),
                        )
                        score = loads + 0.05 * rank + 0.02 * (chunks < panels) + 0.01 * steps - 1.5
                        yield score, Candidate(sketch.number, decisions)


def _of_convolution(sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
    channels, rows, columns = sketch.knobs
    most = int(sketch.limits[0].most or 0)
    for vectors in (2, 4, 1, 3):
        if channels.extent % vectors:
            continue
        for width in [d for d in divisors(columns.extent) if d * vectors <= most][-2:]:
            for height in [d for d in divisors(rows.extent) if d * width * vectors <= most][-1:]:
                pixels = width * height
                loads = (pixels + vectors) / (pixels * vectors)
                groups, bands, strips = (channels.extent // vectors, rows.extent // height, columns.extent // width)
                for rank, (by_channel, by_row) in enumerate(((groups, 1), (1, bands), (groups, bands))):
                    decisions: tuple[Decision, ...] = (
                        (by_channel, groups // by_channel, vectors),
                        (by_row, bands // by_row, height),
                        nearest(columns, (1, strips, width)),
                    )
                    yield loads + 0.05 * rank - 1.5, Candidate(sketch.number, decisions)
