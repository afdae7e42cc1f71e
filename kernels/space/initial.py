"""Initial candidates of CPU sketches, and of those without tiles, by rules of thumb."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from kernels.space import attention, dots, winograd
from kernels.space.data import Candidate, Knob, Sketch
from kernels.space.decision import Decision, as_factors
from kernels.space.tiles import divisors, nearest

_FEW_ROWS = 64
_STREAMED = 8
"""Vectors of one row in a streamed tile."""

_STREAMED_STEPS = {"streamed": 2, "streamed in blocks": 16}
"""Steps of the reduction inside a streamed tile. With 2, rows of the right operand are read in order; with 16, a block
of it stays in the first-level cache for all rows."""

_OUTER_LOOPS = {"parallel": 0.0, "cached": 0.05, "streamed": -0.45, "streamed in blocks": -0.5}
"""Ways to cut the loops around a register tile, each with what it adds to the score."""


_PRODUCTS = ("panels", *dots.RULES, dots.TILE_RULE)
"""Sketches of products whose operands were stored for them: where there is one, its candidates come first."""


def heuristic_candidates(sketches: Sequence[Sketch], vector_lanes: int) -> list[Candidate]:
    """Initial candidates, the most promising first, none twice.

    For tiled sketches the last spatial loop is whole in vector registers, one or two further loops are a register tile
    of 6 to 28 accumulators, the reduction is innermost in one piece, and what is left is outermost (parallel). After
    the register-blocking argument of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
    """
    scored: list[tuple[float, int, Candidate]] = []
    for sketch in sketches:
        for score, candidate in _of_sketch(sketch, vector_lanes):
            if all(limit.satisfied(candidate.decisions) for limit in sketch.limits):
                scored.append((score, len(scored), candidate))
    scored.sort(key=lambda item: item[:2])
    ordered = dict.fromkeys(c for _, _, c in scored)
    products = {sketch.number for sketch in sketches if sketch.rule in _PRODUCTS}
    return sorted(ordered, key=lambda c: c.sketch not in products) if products else list(ordered)


def _of_sketch(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Candidates of a sketch, each with a score: lower is more promising."""
    if winograd.within(sketch):
        return winograd.candidates(sketch)
    if sketch.rule in (*dots.RULES, dots.TILE_RULE):
        return dots.candidates(sketch)
    if sketch.rule == "attention":
        return attention.candidates(sketch, vector_lanes)
    if sketch.rule == "packed":
        return _packed(sketch, vector_lanes)
    if sketch.rule == "panels":
        return _panels(sketch, vector_lanes)
    if sketch.rule == "rows":
        return _rows(sketch, vector_lanes)
    if sketch.rule == "loops":  # passes decide everything
        return iter([(-2.0, Candidate(sketch.number))])
    return _tiled(sketch, vector_lanes) if sketch.levels[0] >= 4 else _flat(sketch)


def _packed(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Tiles of 8 to 28 accumulators, scored by loads for each multiply-add; threads divide the rows or the columns."""
    rows, columns, depth = (k.extent for k in sketch.knobs)
    for vectors in (1, 2, 4):
        width = vectors * vector_lanes
        if columns % width:
            continue
        for height in divisors(rows):
            accumulators = height * vectors
            if not 8 <= accumulators <= 28:
                continue
            loads = (height + vectors) / accumulators
            panels, tiles = columns // width, rows // height
            for by_rows, divided in ((False, panels), (True, tiles)):
                for chunks in (2, 4, 8):
                    if divided % chunks:
                        continue
                    column_tile = (1, panels, width) if by_rows else (chunks, panels // chunks, width)
                    row_tile = (chunks, tiles // chunks, height) if by_rows else (1, tiles, height)
                    candidate = Candidate(sketch.number, (row_tile, column_tile, (depth, 1)))
                    # a panel is copied once for all the rows that a thread goes through with it, and each tile's
                    # accumulators are cleared and stored once for the whole reduction
                    copying = 8 / (rows // chunks if by_rows else rows) + 16 / depth
                    yield loads + copying + 0.02 * chunks + 0.1 * by_rows - 0.5, candidate


def _panels(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Whole panels by as many rows as fit 28 accumulators, scored by loads for each multiply-add.

    Threads divide the panels, then the rows. Rows in blocks keep their part of the left operand in the cache.
    """
    rows, columns = sketch.knobs
    width = max(choice[-1] for choice in map(as_factors, columns.choices))
    vectors = max(width // vector_lanes, 1)
    tallest = max(d for d in divisors(rows.extent) if d * vectors <= 28)
    panels = columns.extent // width
    for height in (d for d in divisors(rows.extent) if d * vectors <= 28 and (d == tallest or d * vectors >= 8)):
        tiles = rows.extent // height
        loads = (height + vectors) / (height * vectors)
        for chunks in {panels, *(n for n in (2, 4, 8) if panels % n == 0)}:
            for rank, blocks in enumerate(n for n in (1, 2, 3, tiles) if tiles % n == 0):
                decisions = ((blocks, tiles // blocks, height), (chunks, panels // chunks, width))
                yield loads + 0.05 * rank + 0.02 * (chunks < panels) - 1.5, Candidate(sketch.number, decisions)


def _rows(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Vectors of two, one and four registers; the rows are divided among threads in few chunks or many."""
    for vectors in (2, 1, 4):
        lanes = vectors * vector_lanes
        for chunks in (8, 64, 2):
            decisions: list[Decision] = []
            for knob in sketch.knobs:
                in_vectors, in_chunks = (max(knob.extent // n, 1) for n in (lanes, chunks))
                decisions.append(nearest(knob, (in_vectors, lanes) if knob.role == "reduce" else (chunks, in_chunks)))
            yield -1.0, Candidate(sketch.number, tuple(decisions))


def _flat(sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
    """For sketches without tiles of four factors: the first, the last and the middle choice of every knob."""
    middle = [len(k.choices) // 2 for k in sketch.knobs]
    for score, position in enumerate((0, -1, None)):
        indices = [
            m if position is None else position % len(k.choices) for m, k in zip(middle, sketch.knobs, strict=True)
        ]
        decisions = tuple(k.choices[i] for k, i in zip(sketch.knobs, indices, strict=True))
        yield score + 0.1 * sketch.number, Candidate(sketch.number, decisions)


def _tiled(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Register tiles, each completed in every way to cut the outer loops.

    With few rows the right operand is read once in any case, so it should be read in order: only then `streamed` ways
    are tried.
    """
    extents = [k.extent for _, k in sketch.tiles if k.role == "spatial"]
    few_rows = math.prod(extents[:-1]) <= _FEW_ROWS
    outer_loops = [outer for outer in _OUTER_LOOPS if few_rows or outer not in _STREAMED_STEPS]
    for register_tile in _register_tiles(extents, vector_lanes):
        accumulators = math.prod(register_tile) / vector_lanes
        for outer in outer_loops:
            # 12 to 16 accumulators hide the latency of two FMA units and leave registers for operands
            score = abs(math.log2(accumulators / 14)) + (0.0 if sketch.number == 1 else 0.3) + _OUTER_LOOPS[outer]
            yield score, _completed(sketch, register_tile, outer)


def _register_tiles(extents: Sequence[int], vector_lanes: int) -> Iterator[list[int]]:
    """The innermost factors of each spatial loop: a vector along the last loop, times one or two other loops."""
    last = len(extents) - 1
    one_register, four_registers = (
        max(d for d in divisors(extents[last]) if d <= registers * vector_lanes) for registers in (1, 4)
    )
    others = [axis for axis in range(last) if extents[axis] > 1]
    for lanes in sorted({one_register, four_registers}):
        registers = max(1, math.ceil(lanes / vector_lanes))
        for axis in others or [last]:
            for rows in divisors(extents[axis]) if others else [1]:
                used = rows * registers
                if used > 32 or (not 4 <= used <= 28 and rows != extents[axis]):
                    continue
                tile = [1] * len(extents)
                if others:
                    tile[axis] = rows
                tile[last] = lanes
                yield tile
                for second in others:
                    if second != axis and extents[second] % 2 == 0 and 2 * used <= 28:
                        yield [2 if i == second else factor for i, factor in enumerate(tile)]


def _completed(sketch: Sketch, register_tile: Sequence[int], outer: str) -> Candidate:
    """The candidate with a register tile and the outer loops cut in one of the ways of _OUTER_LOOPS."""
    decisions: list[Decision] = [k.default for k in sketch.knobs]
    spatial = [(i, k) for i, k in sketch.tiles if k.role == "spatial"]
    for position, ((i, knob), innermost) in enumerate(zip(spatial, register_tile, strict=True)):
        decisions[i] = _spatial_tile(knob, innermost, outer, first=position <= 1, last=position == len(spatial) - 1)
    reduce = [(i, k) for i, k in sketch.tiles if k.role == "reduce"]
    for position, (i, knob) in enumerate(reduce):
        whole = position > 0 or len(reduce) == 1
        steps = _STREAMED_STEPS.get(outer, knob.extent if knob.extent <= 64 else 16) if whole else 1
        decisions[i] = nearest(knob, (max(knob.extent // steps, 1), steps))
    for i, knob in enumerate(sketch.knobs):
        if knob.role == "location":
            decisions[i] = knob.choices[min(1, len(knob.choices) - 1)]
    return Candidate(sketch.number, tuple(decisions))


def _spatial_tile(knob: Knob, innermost: int, outer: str, first: bool, last: bool) -> Decision:
    """A tile of four factors.

    `streamed` puts the reduction outside of all rows and of several vectors of the last loop, whose sums then stay in
    the first-level cache.
    """
    rest = knob.extent // innermost
    if outer in _STREAMED_STEPS:
        inside = min(_STREAMED, rest) if last else rest
        return nearest(knob, (max(rest // inside, 1), 1, inside, innermost))
    parallel = rest if outer == "parallel" or first else 1
    return nearest(knob, (parallel, rest // parallel, 1, innermost))
