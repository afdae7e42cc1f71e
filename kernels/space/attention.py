"""Our sketch rule for attention in one kernel: a block of rows of scores never leaves the caches of a core.

A thread packs the keys and the values of one head, then takes block after block of query rows through the scores, their
softmax and the product with the values. Whole rows are kept, so nothing is rescaled as in "FlashAttention" (Dao et al.,
2022): some hundred scores a row fit a first- or second-level cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from kernels.space.constraints import LEAST_LANES, MAX_LANES
from kernels.space.data import Candidate, Sketch
from kernels.space.decision import Decision
from kernels.space.panels import panel_width

_MAX_ROWS = 28
_FIRST_CACHE = 32 << 10


def schedule_attention(schedule: Schedule) -> bool:
    """Schedule two products by panels with reductions and functions of rows between them.

    False, with the schedule as it was, where the program is not of this kind.
    """
    blocks = schedule.get_child_blocks(schedule.get_sblock("root", func_name="main"))
    widths = [panel_width(schedule.get(block)) for block in blocks]
    products = [n for n, width in enumerate(widths) if width]
    if len(products) != 2:
        return False
    scores, product = (blocks[n] for n in products)
    panels = [n for n, block in enumerate(blocks) if _feeds(schedule, block, (scores, product))]
    stages = [b for n, b in enumerate(blocks) if products[0] < n < products[1] and n not in panels]
    following = blocks[products[1] + 1 :]
    if len(panels) + len(stages) + len(following) + 2 != len(blocks) or not _is_softmax(schedule, stages):
        return False
    written = following[-1] if following else schedule.cache_write(product, 0, "global")
    for block in following[:-1]:
        schedule.compute_inline(block)
    stored, stages = _merged_scores(schedule, scores, stages)
    *batch, i, j, k = schedule.get_loops(product)
    rows = schedule.sample_perfect_tile(i, 4, _MAX_ROWS)
    i0, i1, i2, i3 = schedule.split(i, rows)
    j0, j1 = schedule.split(j, schedule.sample_perfect_tile(j, 2, min(widths[products[1]], MAX_LANES)))
    schedule.reorder(*batch, i0, i1, j0, i2, k, i3, j1)
    head = schedule.fuse(*batch, i0)
    schedule.parallel(head)
    schedule.reverse_compute_at(written, i2, preserve_unit_loops=True)
    schedule.unroll(i3)
    schedule.vectorize(j1)
    schedule.vectorize(schedule.get_loops(written)[-1])
    _softmax(schedule, stages, i1)
    schedule.compute_at(stored, i1, preserve_unit_loops=True)
    schedule.compute_at(scores, i1, preserve_unit_loops=True)
    _scores(schedule, scores, stored, rows[2:], min(widths[products[0]], MAX_LANES))
    for n in reversed(panels):
        schedule.compute_at(blocks[n], head, preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(blocks[n])[-1])
    return True


def _merged_scores(schedule: Schedule, scores: Any, stages: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The block that stores the scores, with all that is done to each of them, and the stages after it."""
    first = next(n for n, block in enumerate(stages) if _reduced(schedule.get(block)))
    if first == 0:
        return schedule.cache_write(scores, 0, "global"), list(stages)
    for block in stages[: first - 1]:
        schedule.compute_inline(block)
    return stages[first - 1], list(stages[first:])


def _scores(schedule: Schedule, scores: Any, stored: Any, rows: Sequence[Any], width: int) -> None:
    """Tiles of registers, as many rows high as those of the other product."""
    *_, i, j, k = schedule.get_loops(scores)
    i0, i1 = schedule.split(i, rows)
    j0, j1 = schedule.split(j, schedule.sample_perfect_tile(j, 2, width))
    schedule.reorder(j0, i0, k, i1, j1)
    schedule.reverse_compute_at(stored, i0, preserve_unit_loops=True)
    schedule.unroll(i1)
    schedule.vectorize(j1)
    schedule.vectorize(schedule.get_loops(stored)[-1])


def _softmax(schedule: Schedule, stages: Sequence[Any], at: Any) -> None:
    """Each stage for all rows of a block. Lanes of a vector reduce their own share of a row."""
    factors: Any = None
    parts = []
    for block in stages:
        loop = schedule.get_loops(block)[-1]
        factors = factors or schedule.sample_perfect_tile(loop, 2, MAX_LANES)
        if _reduced(schedule.get(block)):
            lane = schedule.split(loop, factors)[1]
            lanes = schedule.rfactor(lane, len(schedule.get(block).iter_vars) - 1)
            parts += [("lanes", lanes), ("sum", block)]
        else:
            parts.append(("elements", block))
    for _, block in reversed(parts):
        schedule.compute_at(block, at, preserve_unit_loops=True)
    for kind, block in parts:
        if kind == "lanes":
            lane, *others = schedule.get_loops(block)[2:]
            schedule.reorder(*others, lane)
            schedule.vectorize(lane)
        elif kind == "elements":
            schedule.vectorize(schedule.split(schedule.get_loops(block)[-1], factors)[1])


def _feeds(schedule: Schedule, block: Any, products: Sequence[Any]) -> bool:
    """Whether a block makes the panels of one of the products."""
    written = schedule.get(block).writes[0].source
    return any(schedule.get(product).reads[1].source.same_as(written) for product in products)


def _is_softmax(schedule: Schedule, stages: Sequence[Any]) -> bool:
    """Whether there are two reductions of rows, and else only what is done element by element."""
    reduced = [_reduced(schedule.get(block)) for block in stages]
    extents = {int(schedule.get(schedule.get_loops(block)[-1]).extent) for block in stages}
    return sum(reduced) == 2 and len(extents) == 1 and extents.pop() % LEAST_LANES == 0


def _reduced(block: Any) -> bool:
    return any(int(v.iter_type) == IterVar.CommReduce for v in block.iter_vars)


def candidates(sketch: Sketch, vector_lanes: int) -> Iterator[tuple[float, Candidate]]:
    """Initial candidates with their scores: whole panels by rows for 8 to 28 accumulators, by loads for each
    multiply-add; blocks of rows whose scores fit the first-level cache."""
    # (threads, blocks, tiles, rows of a tile), (panels, lanes) of values, (vectors, lanes) of rows, of scores
    rows, values, row, scores = sketch.knobs
    widest = [max(choice[-1] for choice in knob.choices) for knob in (values, scores)]  # type: ignore[index]
    vectors = [max(width // vector_lanes, 1) for width in widest]
    lanes = min(row.choices, key=lambda choice: abs(choice[-1] - vector_lanes))  # type: ignore[index]
    fixed: list[Decision] = [(knob.extent // w, w) for knob, w in zip((values, scores), widest, strict=True)]
    for choice in rows.choices:
        threads, _, tiles, height = choice  # type: ignore[misc]
        if threads > 2 or height * max(vectors) > 28 or height * max(vectors) < min(8, rows.extent):
            continue
        loads = sum((height + n) / (height * n) for n in vectors) / 2
        held = 8 * tiles * height * scores.extent / _FIRST_CACHE
        score = loads + 0.1 * max(0.0, held - 1) + 0.05 / tiles + 0.1 * (threads - 1) - 1.5
        yield score, Candidate(sketch.number, (choice, fixed[0], lanes, fixed[1]))
