"""Our sketch rules for Winograd convolutions: tiles of outputs, and channels, that stay in the caches of one core.

A block of tiles and of output channels goes through products and output transform while both are in the first caches.
The input transform is either done for the block of tiles right before ("winograd_fused"), or for all of the input at
first ("winograd"): then threads may divide the output channels, too, and each reads only its part of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tvm.s_tir import Schedule

from kernels.space.data import Candidate, Sketch
from kernels.space.decision import Decision
from kernels.winograd import INPUT, OUTPUT, PAD, PRODUCT, ROWS_IN, ROWS_OUT

RULES = ("winograd", "winograd_fused")

_MOST_VECTORS = 4
_MOST_ROWS = 28


def schedule_winograd(schedule: Schedule) -> bool:
    """Schedule a program of `tuner.graph.winograd` with the input transformed first. False where it is none."""
    return _schedule(schedule, fused=False)


def schedule_winograd_fused(schedule: Schedule) -> bool:
    """The same with each block's input transformed right before its products."""
    return _schedule(schedule, fused=True)


def _schedule(schedule: Schedule, fused: bool) -> bool:
    blocks = schedule.get_child_blocks(schedule.get_sblock("root", func_name="main"))
    named = {str(schedule.get(block).name_hint): block for block in blocks}
    wanted = (PAD, ROWS_IN, INPUT, PRODUCT, ROWS_OUT, OUTPUT)
    if any(name not in named for name in wanted):
        return False
    pad, rows_in, transformed, product, rows_out, output = (named[name] for name in wanted)
    while consumers := schedule.get_consumers(output):
        schedule.reverse_compute_inline(consumers[0])
    size = int(schedule.get(schedule.get_loops(product)[0]).extent)
    n, c, y, x, k = schedule.get_loops(output)
    ty, u = schedule.split(y, [None, size - 2])
    tx, v = schedule.split(x, [None, size - 2])
    channels = schedule.sample_perfect_tile(c, 3, _MOST_VECTORS)
    tile_rows = schedule.sample_perfect_tile(ty, 3, _MOST_ROWS)
    tile_columns = schedule.sample_perfect_tile(tx, 2, _MOST_ROWS)
    c0, c1, c2 = schedule.split(c, channels)
    t0, t1, t2 = schedule.split(ty, tile_rows)
    if fused:
        schedule.reorder(n, t0, c0, t1, t2, tx, c1, c2, u, v, k)
        outer = schedule.fuse(n, t0)
        turn = c0
    elif _weights_are_larger(schedule, transformed, product):
        schedule.reorder(n, c0, t0, t1, t2, tx, c1, c2, u, v, k)
        outer = turn = schedule.fuse(n, c0, t0)
    else:
        schedule.reorder(n, t0, c0, t1, t2, tx, c1, c2, u, v, k)
        outer = turn = schedule.fuse(n, t0, c0)
    schedule.parallel(outer)
    schedule.compute_at(rows_out, c2, preserve_unit_loops=True)
    schedule.compute_at(product, turn, preserve_unit_loops=True)
    if fused:
        schedule.compute_at(transformed, outer, preserve_unit_loops=True)
    _straight(schedule, [u, v], k)
    _straight(schedule, schedule.get_loops(rows_out)[-3:-1], schedule.get_loops(rows_out)[-1])
    _transform_input(schedule, pad, rows_in, transformed, fused)
    _multiply(schedule, product, (channels[1:], tile_rows[1:], tile_columns))
    return True


def _weights_are_larger(schedule: Schedule, transformed: Any, product: Any) -> bool:
    """Whether the transformed weights are larger than the transformed input: then a thread should read few of them."""
    inputs, weights = (math.prod(map(int, region.source.shape)) for region in schedule.get(product).reads)
    return weights > inputs


def _straight(schedule: Schedule, unrolled: Any, vector: Any) -> None:
    for loop in unrolled:
        schedule.unroll(loop)
    schedule.vectorize(vector)


def _transform_input(schedule: Schedule, pad: Any, rows_in: Any, transformed: Any, fused: bool) -> None:
    """Tile after tile, straight-line code over vectors of channels."""
    r, s, n, c, ty, tx, k = schedule.get_loops(transformed)[-7:]
    schedule.reorder(n, c, ty, tx, r, s, k)
    if not fused:
        schedule.parallel(schedule.fuse(n, c, ty))
    schedule.compute_at(rows_in, tx, preserve_unit_loops=True)
    schedule.compute_at(pad, tx, preserve_unit_loops=True)
    _straight(schedule, [r, s], k)
    *_, r, s, k = schedule.get_loops(rows_in)
    _straight(schedule, [r, s], k)
    schedule.vectorize(schedule.get_loops(pad)[-1])


def _multiply(schedule: Schedule, product: Any, tiles: Any) -> None:
    """One product for each element of a tile: rows of tiles by vectors of channels in registers."""
    written = schedule.cache_write(product, 0, "global")
    r, s, n, c, ty, tx, k, ico, ici = schedule.get_loops(product)[-9:]
    steps = schedule.split(ici, schedule.sample_perfect_tile(ici, 2, _MOST_VECTORS))
    (c1, c2), (t1, t2), (x0, x1) = (
        schedule.split(loop, factors) for loop, factors in zip((c, ty, tx), tiles, strict=True)
    )
    schedule.reorder(n, r, s, c1, t1, x0, ico, *steps, t2, x1, c2, k)
    schedule.reverse_compute_at(written, x0, preserve_unit_loops=True)
    _straight(schedule, [steps[1], t2, x1, c2], k)
    *_, a, b, c, k = schedule.get_loops(written)
    _straight(schedule, [a, b, c], k)


def within(sketch: Sketch) -> bool:
    """Whether a sketch is of these rules."""
    return sketch.rule in RULES


def candidates(sketch: Sketch) -> Iterator[tuple[float, Candidate]]:
    """Initial candidates with their scores: 8 to 28 accumulators, by loads for each multiply-add, and with blocks for
    at least two threads."""
    # (outer, blocks of a turn, vectors of a register tile), (threads', turns, rows of a register tile),
    # (turns, columns of a register tile), (steps, steps at once)
    channels, rows, columns, steps = sketch.knobs
    for column in columns.choices:
        for row in rows.choices:
            for channel in channels.choices:
                height, vectors = row[2] * column[1], channel[2]  # type: ignore[index]
                if channel[1] != 1 or not 8 <= height * vectors <= 28:  # type: ignore[index]
                    continue
                blocks = row[0] * (1 if sketch.rule == "winograd_fused" else channel[0])  # type: ignore[index]
                if blocks == 1 or row[1] > 4:  # type: ignore[index]
                    continue
                loads = (height + vectors) / (height * vectors)
                uneven = 0.2 if blocks % 2 and blocks < 8 else 0.0
                decisions: tuple[Decision, ...] = (channel, row, column, steps.choices[0])
                yield loads + uneven - 0.5, Candidate(sketch.number, decisions)
