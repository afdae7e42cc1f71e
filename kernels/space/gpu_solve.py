"""Draws decisions that satisfy a GPU's limits, knob after knob, instead of drawing any and rejecting most.

The limits of a GPU sketch are not only products: tiles in shared memory have halos, padding and copies (see `gpu`). So
they are not counted as in `solve`. Before each choice the knob's values are narrowed to those from which the rest can
still succeed: the threads that are still missing must be a product of divisors of the remaining loops, and everything
else must fit with the remaining knobs at their least. The choice is uniform among what is left.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.space.data import Knob
from kernels.space.decision import Decision
from kernels.space.gpu import MAX_ACCUMULATORS, MAX_VTHREAD, GpuModel
from kernels.space.solve import Count
from kernels.space.tiles import divisors

_ATTEMPTS = 50
_ESTIMATE_DRAWS = 4096

_Tiles = NDArray[np.int64]
"""The choices of a tile knob [choices, factors]."""

_Filter = Generator[NDArray[np.bool_], int, None]
"""Yields which choices of the next knob are possible, and is sent the one that was taken."""


class GpuSolver:
    """The legal decisions of a tiled GPU sketch; the counterpart of `solve.Solver`."""

    def __init__(self, knobs: Sequence[Knob], model: GpuModel) -> None:
        self._knobs = tuple(knobs)
        self._model = model

    def satisfied(self, decisions: Sequence[Decision]) -> bool:
        """Whether decisions satisfy every limit."""
        return self._model.legal(decisions)

    def count(self) -> Count:
        """About how many sets of decisions satisfy every limit, estimated from a few thousand plain draws."""
        rng = np.random.default_rng(0)
        legal = sum(
            self._model.legal([k.choices[int(rng.integers(len(k.choices)))] for k in self._knobs])
            for _ in range(_ESTIMATE_DRAWS)
        )
        share = legal / _ESTIMATE_DRAWS
        points = round(share * math.prod(len(k.choices) for k in self._knobs))
        return Count(points, math.sqrt((1 - share) / max(legal, 1)))

    def draw(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A random legal set as one index for each knob (0.3 to 1 ms); None where fifty attempts find none."""
        for _ in range(_ATTEMPTS):
            indices = self._attempt(rng)
            if indices is not None:
                return tuple(indices)
        return None

    def _attempt(self, rng: np.random.Generator) -> list[int] | None:
        model = self._model
        indices = [int(rng.integers(len(k.choices))) for k in self._knobs]
        tiles = {k: 1 for k in (*model.spatial, *model.reduce)} | {~k: 1 for k in model.spatial}
        for knobs, filter_for in ((model.spatial, self._spatial), (model.reduce, self._reduce)):
            order = [int(k) for k in rng.permutation(knobs)]
            choices = filter_for(order)
            possible = next(choices)
            for k in order:
                index = self._pick(k, possible, tiles, rng)
                if index is None:
                    return None
                indices[k] = index
                tiles.update(model.tile(k, self._knobs[k].choices[index]))
                possible = choices.send(index)
        for staged in model.staged:
            if staged.vector >= 0:
                widths = self._knobs[staged.vector].choices
                fitting = [i for i, choice in enumerate(widths) if model.vector_fits(staged, choice)]
                indices[staged.vector] = int(rng.choice(fitting))
        return indices

    def _spatial(self, order: Sequence[int]) -> _Filter:
        """Which choices leave threads, virtual threads and accumulators within their limits, knob after knob."""
        model = self._model
        threads, vthreads, inner = model.lanes, 1, 1
        m, n, _ = model.intrinsic
        for position, k in enumerate(order):
            tiles = self._tiles[k]
            bound = threads * tiles[:, model.thread_level]
            ones = np.ones(len(tiles), np.int64)
            virtual = vthreads * (tiles[:, model.vthread_level] if model.vthread_level >= 0 else ones)
            per_thread = inner * tiles[:, model.thread_level + 1 :].prod(axis=1)
            rest = _products(tuple(sorted(self._knobs[r].extent for r in order[position + 1 :])), model.max_threads)
            index = yield (
                _can_complete(bound, rest, model.min_threads, model.max_threads)
                & (virtual <= MAX_VTHREAD)
                & (per_thread * virtual * m * n // model.lanes <= MAX_ACCUMULATORS)
            )
            threads, vthreads, inner = int(bound[index]), int(virtual[index]), int(per_thread[index])
        yield np.ones(0, bool)

    def _reduce(self, order: Sequence[int]) -> _Filter:
        """Which choices leave the reductions enough steps at their first two levels, knob after knob."""
        least = self._model.min_steps
        steps = [1, 1]
        for position, k in enumerate(order):
            tiles = self._tiles[k]
            rest = math.prod(self._knobs[r].extent for r in order[position + 1 :])
            index = yield (steps[0] * tiles[:, 0] * rest >= least[0]) & (steps[1] * tiles[:, 1] * rest >= least[1])
            steps = [count * int(factor) for count, factor in zip(steps, tiles[index], strict=False)]
        yield np.ones(0, bool)

    def _pick(
        self, knob: int, possible: NDArray[np.bool_], tiles: dict[int, int], rng: np.random.Generator
    ) -> int | None:
        """A uniform choice among the possible ones that leave room in shared memory; None where there is none."""
        shuffled = np.flatnonzero(possible)
        rng.shuffle(shuffled)
        for index in shuffled:
            trial = {**tiles, **self._model.tile(knob, self._knobs[knob].choices[index])}
            if self._model.shared_bytes(trial) <= self._model.max_shared:
                return int(index)
        return None

    @functools.cached_property
    def _tiles(self) -> dict[int, _Tiles]:
        """The choices of each tile knob."""
        return {k: np.array(self._knobs[k].choices, np.int64) for k in (*self._model.spatial, *self._model.reduce)}


@functools.lru_cache(maxsize=512)
def _products(extents: tuple[int, ...], most: int) -> tuple[int, ...]:
    """All products, at most `most`, of one divisor of each extent."""
    products = {1}
    for extent in extents:
        products = {p * d for p in products for d in divisors(extent) if p * d <= most}
    return tuple(sorted(products))


def _can_complete(threads: NDArray[np.int64], rest: Sequence[int], least: int, most: int) -> NDArray[np.bool_]:
    """For each number of threads so far: whether some product of the rest brings it into the limits."""
    whole = threads[:, None] * np.asarray(rest)[None, :]
    possible: NDArray[np.bool_] = ((whole >= least) & (whole <= most)).any(axis=1)
    return possible
