"""Random decisions that respect a GPU's limits, knob after knob, instead of drawing and throwing away.

Before each choice the knob's values are narrowed to those that leave the rest a way to succeed: the threads that are
still wanted must be a product of factors the remaining loops have, and everything else must fit with the remaining
knobs at their least. What is left is drawn uniformly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.space.data import Knob, Sketch, as_parts
from kernels.space.gpu import MAX_ACCUMULATORS, MAX_VTHREAD, GpuModel
from kernels.space.tiles import divisors

_ATTEMPTS = 20


def draw(sketch: Sketch, rng: np.random.Generator) -> list[int]:
    """One index for each knob of a sketch. On a GPU within the sketch's limits wherever twenty attempts find a way."""
    if sketch.gpu is None:
        return [int(rng.integers(len(k.choices))) for k in sketch.knobs]
    for _ in range(_ATTEMPTS):
        indices = _attempt(sketch, sketch.gpu, rng)
        if indices is not None:
            return indices
    return [0] * len(sketch.knobs)


def solvable(sketch: Sketch) -> bool:
    """Whether the sketch has a candidate within its limits, as far as `draw` can tell."""
    if sketch.gpu is None:
        return True
    indices = draw(sketch, np.random.default_rng(0))
    return sketch.gpu.legal([k.choices[i] for k, i in zip(sketch.knobs, indices, strict=True)])


def _attempt(sketch: Sketch, model: GpuModel, rng: np.random.Generator) -> list[int] | None:
    tables = [_table(k.choices) if i in (*model.spatial, *model.reduce) else None for i, k in enumerate(sketch.knobs)]
    indices = [int(rng.integers(len(k.choices))) for k in sketch.knobs]
    tiles = {k: 1 for k in (*model.spatial, *model.reduce)} | {~k: 1 for k in model.spatial}
    threads, vthreads, inner = model.lanes, 1, 1
    m, n, _ = model.intrinsic
    spatial = list(model.spatial)
    rng.shuffle(spatial)
    for position, k in enumerate(spatial):
        table = _of(tables[k])
        part = threads * table[:, model.thread_part]
        virtual = vthreads * (table[:, model.vthread_part] if model.vthread_part >= 0 else 1)
        rest = _reachable(tuple(sorted(_extent(sketch.knobs[r]) for r in spatial[position + 1 :])), model.max_threads)
        accumulators = inner * table[:, model.thread_part + 1 :].prod(axis=1) * virtual
        fits = (
            _completes(part, rest, model.min_threads, model.max_threads)
            & (virtual <= MAX_VTHREAD)
            & (accumulators * m * n // model.lanes <= MAX_ACCUMULATORS)
        )
        index = _pick(sketch, model, k, fits, tiles, rng)
        if index is None:
            return None
        indices[k] = index
        parts = table[index]
        threads = int(part[index])
        vthreads = int(virtual[index]) if model.vthread_part >= 0 else 1
        inner *= int(parts[model.thread_part + 1 :].prod())
        tiles[k], tiles[~k] = int(parts[model.tile_part :].prod()), int(parts[model.thread_part])
    first, second = 1, 1
    reduce = [int(k) for k in rng.permutation(model.reduce)]
    for position, k in enumerate(reduce):
        table = _of(tables[k])
        rest = math.prod(_extent(sketch.knobs[r]) for r in reduce[position + 1 :])
        fits = (first * table[:, 0] * rest >= model.min_steps[0]) & (second * table[:, 1] * rest >= model.min_steps[1])
        index = _pick(sketch, model, k, fits, tiles, rng)
        if index is None:
            return None
        indices[k] = index
        tiles[k] = int(table[index][1:].prod())
        first, second = first * int(table[index][0]), second * int(table[index][1])
    for staged in model.staged:
        if staged.vector >= 0:
            widths = [i for i, c in enumerate(sketch.knobs[staged.vector].choices) if model.vector_fits(staged, c)]
            indices[staged.vector] = int(rng.choice(widths))
    return indices


def _pick(
    sketch: Sketch, model: GpuModel, knob: int, fits: NDArray[np.bool_], tiles: dict[int, int], rng: np.random.Generator
) -> int | None:
    """A uniform choice among the values that fit and leave room in shared memory; None where there is none."""
    left = np.flatnonzero(fits)
    rng.shuffle(left)
    for index in left:
        parts = as_parts(sketch.knobs[knob].choices[index])
        tile = math.prod(parts[model.tile_part if knob in model.spatial else 1 :])
        trial = {**tiles, knob: tile}
        if knob in model.spatial:
            trial[~knob] = parts[model.thread_part]
        if model.shared_bytes(trial) <= model.max_shared:
            return int(index)
    return None


def _of(table: NDArray[np.int64] | None) -> NDArray[np.int64]:
    assert table is not None
    return table


@functools.lru_cache(maxsize=512)
def _table(choices: tuple[Sequence[int], ...]) -> NDArray[np.int64]:
    """A tile knob's choices as rows."""
    return np.array([as_parts(tuple(c)) for c in choices], dtype=np.int64)


def _extent(knob: Knob) -> int:
    return math.prod(as_parts(knob.choices[0]))


@functools.lru_cache(maxsize=512)
def _reachable(extents: tuple[int, ...], most: int) -> tuple[int, ...]:
    """All products, at most `most`, of one divisor of each extent."""
    found = {1}
    for extent in extents:
        found = {p * d for p in found for d in divisors(extent) if p * d <= most}
    return tuple(sorted(found))


def _completes(part: NDArray[np.int64], rest: Sequence[int], least: int, most: int) -> NDArray[np.bool_]:
    """Whether some product of the rest brings the threads into the limits."""
    products = np.asarray(rest)
    whole = part[:, None] * products[None, :]
    answer: NDArray[np.bool_] = ((whole >= least) & (whole <= most)).any(axis=1)
    return answer
