"""Analytical first guesses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from kernels.space.data import Candidate, Knob, Sketch, parts_of
from kernels.space.decision import Decision
from kernels.space.tiles import divisors, nearest

_FEW_ROWS = 64
_STREAMED = 8
"""Vectors of one row that a streamed tile holds."""

_STREAMED_STEPS = {"streamed": 2, "streamed in blocks": 16}
"""Steps of the reduction that go through all of a streamed tile at once: rows of the right operand are read side by
side, or a block of it stays in the first-level cache for all rows."""


def first_guesses(sketches: Sequence[Sketch], vector_lanes: int) -> list[Candidate]:
    """Analytical first guesses, the most promising first.

    For tiled sketches: the last spatial loop whole in vector registers, one or two further loops
    as a register tile of 6 to 28 accumulators, the reduction innermost in one piece, whatever is
    left outermost (parallel). After the register-blocking argument of Goto and van de Geijn,
    "Anatomy of High-Performance Matrix Multiplication" (2008).
    """
    scored: list[tuple[float, int, Candidate]] = []
    for sketch in sketches:
        for score, candidate in _guesses(sketch, vector_lanes):
            if all(limit.kept(candidate.decisions) for limit in sketch.limits):
                scored.append((score, len(scored), candidate))
    scored.sort(key=lambda item: item[:2])
    return list(dict.fromkeys(c for _, _, c in scored))


def _guesses(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Candidates of a sketch, each with a score that is lower for the more promising."""
    if sketch.rule == "packed":
        return _packed_seeds(sketch, vector_lanes)
    if sketch.rule == "rows":
        return _row_seeds(sketch, vector_lanes)
    return _tiled_seeds(sketch, vector_lanes) if sketch.levels[0] >= 4 else _flat_seeds(sketch)


def _packed_seeds(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Tiles of 8 to 28 accumulators that load little for each multiply-add; rows or columns shared out to threads."""
    rows, columns, depth = (math.prod(parts_of(k)) for k in sketch.knobs)
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
            for grain, (share, each) in enumerate(((panels, tiles), (tiles, panels))):
                for parts in (2, 4, 8):
                    if share % parts:
                        continue
                    cut_columns = (parts, panels // parts, width) if grain == 0 else (1, panels, width)
                    cut_rows = (1, each, height) if grain == 0 else (parts, tiles // parts, height)
                    candidate = Candidate(sketch.number, (cut_rows, cut_columns, (depth, 1)))
                    # a panel is copied once for all the rows that a thread goes through with it, and each tile's
                    # accumulators are cleared and stored once for the whole reduction
                    copying = 8 / (rows if grain == 0 else rows // parts) + 16 / depth
                    yield loads + copying + 0.02 * parts + 0.1 * grain - 0.5, candidate


def _row_seeds(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Vectors of two, one and four registers; the rows shared out to threads in few parts or many."""
    for vectors in (2, 1, 4):
        for parts in (8, 64, 2):
            decisions: list[Decision] = []
            for knob in sketch.knobs:
                extent, lanes = math.prod(parts_of(knob)), vectors * vector_lanes
                wanted = (max(extent // lanes, 1), lanes) if knob.role == "reduce" else (parts, max(extent // parts, 1))
                decisions.append(nearest(knob, wanted))
            yield -1.0, Candidate(sketch.number, tuple(decisions))


def _flat_seeds(sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
    middle = [len(k.choices) // 2 for k in sketch.knobs]
    for score, position in enumerate((0, -1, None)):
        indices = [
            m if position is None else position % len(k.choices) for m, k in zip(middle, sketch.knobs, strict=True)
        ]
        decisions = tuple(k.choices[i] for k, i in zip(sketch.knobs, indices, strict=True))
        yield score + 0.1 * sketch.number, Candidate(sketch.number, decisions)


def _tiled_seeds(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    spatial = [(i, k) for i, k in sketch.tiles if k.role == "spatial"]
    reduce = [(i, k) for i, k in sketch.tiles if k.role == "reduce"]
    extents = [math.prod(parts_of(k)) for _, k in spatial]
    last = len(spatial) - 1
    lanes = max((d for d in divisors(extents[last]) if d <= 4 * vector_lanes), default=1)
    vectors = sorted({lanes, max(d for d in divisors(extents[last]) if d <= vector_lanes)})
    wide = [a for a in range(last) if extents[a] > 1]
    for lane in vectors:
        registers = max(1, math.ceil(lane / vector_lanes))
        for axis in wide or [last]:
            for rows in divisors(extents[axis]) if wide else [1]:
                if not (4 <= rows * registers <= 28) and rows != extents[axis]:
                    continue
                if rows * registers > 32:
                    continue
                for second, more in [
                    (axis, rows),
                    *((b, 2) for b in wide if b != axis and extents[b] % 2 == 0 and rows * 2 * registers <= 28),
                ]:
                    inner = [1] * len(spatial)
                    inner[last] = lane
                    if wide:
                        inner[axis] = rows
                    if second != axis:
                        inner[second] = more
                    yield from _fill(sketch, spatial, reduce, extents, inner, vector_lanes)


def _fill(
    sketch: Sketch,
    spatial: Sequence[tuple[int, Knob]],
    reduce: Sequence[tuple[int, Knob]],
    extents: Sequence[int],
    inner: Sequence[int],
    vector_lanes: int,
) -> Iterator[tuple[float, Candidate]]:
    """Complete a register tile: outer loops parallel, the reduction whole or with its first loop outside.

    With few rows the right operand is read once whatever one does, so what counts is to read it in order: `streamed`
    steps of the reduction, one or a few of them outside of all the rows and of several vectors, whose sums stay in the
    first-level cache.
    """
    accumulators = math.prod(inner) / vector_lanes
    few = math.prod(extents[:-1]) <= _FEW_ROWS
    for outer in ("parallel", "cached", *(_STREAMED_STEPS if few else ())):
        decisions: list[Decision] = [k.choices[0] for k in sketch.knobs]
        for position, ((i, knob), extent, tile) in enumerate(zip(spatial, extents, inner, strict=True)):
            rest = extent // tile
            if outer in _STREAMED_STEPS:
                side = rest if position < len(spatial) - 1 else min(_STREAMED, rest)
                decisions[i] = nearest(knob, (max(rest // side, 1), 1, side, tile))
                continue
            first = rest if outer == "parallel" or position <= 1 else 1
            decisions[i] = nearest(knob, (first, rest // first, 1, tile))
        for position, (i, knob) in enumerate(reduce):
            extent = math.prod(parts_of(knob))
            whole = position > 0 or len(reduce) == 1
            inside = 1 if not whole else _STREAMED_STEPS.get(outer, extent if extent <= 64 else 16)
            decisions[i] = nearest(knob, (max(extent // inside, 1), inside))
        for i, knob in enumerate(sketch.knobs):
            if knob.role == "location":
                decisions[i] = knob.choices[min(1, len(knob.choices) - 1)]
        candidate = Candidate(sketch.number, tuple(decisions))
        # 12 to 16 accumulators hide the latency of two FMA units and leave registers for operands
        score = (
            abs(math.log2(accumulators / 14))
            + (0.0 if sketch.number == 1 else 0.3)
            + {"parallel": 0.0, "cached": 0.05, "streamed": -0.45, "streamed in blocks": -0.5}[outer]
        )
        yield score, candidate
