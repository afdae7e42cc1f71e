"""Decisions that respect a GPU's limits, knob after knob, instead of drawing and throwing away.

A GPU sketch's limits are no products alone: tiles in shared memory have halos, padding and copies (see `gpu`). So they
are not counted as `solve` does. Before each choice the knob's values are narrowed to those that leave the rest a way to
succeed: the threads that are still wanted must be a product of factors the remaining loops have, and all else must fit
with the remaining knobs at their least. What is left is drawn uniformly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.space.data import Knob, parts_of
from kernels.space.decision import Decision
from kernels.space.gpu import MAX_ACCUMULATORS, MAX_VTHREAD, GpuModel
from kernels.space.solve import Count
from kernels.space.tiles import divisors

_ATTEMPTS = 50
_ESTIMATE_DRAWS = 4096

Table = NDArray[np.int64]
_Fits = Generator[NDArray[np.bool_], int, None]


class GpuSolver:
    """The legal decisions of a tiled GPU sketch; the same methods as `solve.Solver`."""

    def __init__(self, knobs: Sequence[Knob], model: GpuModel) -> None:
        self._knobs = tuple(knobs)
        self._model = model

    def kept(self, decisions: Sequence[Decision]) -> bool:
        """Whether decisions keep every limit."""
        return self._model.legal(decisions)

    def count(self) -> Count:
        """About how many sets of decisions keep every limit, from a few thousand plain draws."""
        rng = np.random.default_rng(0)
        legal = sum(
            self._model.legal([k.choices[int(rng.integers(len(k.choices)))] for k in self._knobs])
            for _ in range(_ESTIMATE_DRAWS)
        )
        share = legal / _ESTIMATE_DRAWS
        points = round(share * math.prod(len(k.choices) for k in self._knobs))
        return Count(points, math.sqrt((1 - share) / max(legal, 1)))

    def draw(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A random legal set as one index a knob (0.3 to 1 ms); None where fifty attempts find none."""
        for _ in range(_ATTEMPTS):
            indices = self._attempt(rng)
            if indices is not None:
                return tuple(indices)
        return None

    def _attempt(self, rng: np.random.Generator) -> list[int] | None:
        model = self._model
        indices = [int(rng.integers(len(k.choices))) for k in self._knobs]
        tiles = {k: 1 for k in (*model.spatial, *model.reduce)} | {~k: 1 for k in model.spatial}
        for knobs, fitting in ((model.spatial, self._spatial), (model.reduce, self._reduce)):
            order = [int(k) for k in rng.permutation(knobs)]
            options = fitting(order)
            fits = next(options)
            for k in order:
                index = self._pick(k, fits, tiles, rng)
                if index is None:
                    return None
                indices[k] = index
                tiles.update(model.tile(k, self._knobs[k].choices[index]))
                fits = options.send(index)
        for staged in model.staged:
            if staged.vector >= 0:
                choices = self._knobs[staged.vector].choices
                widths = [i for i, choice in enumerate(choices) if model.vector_fits(staged, choice)]
                indices[staged.vector] = int(rng.choice(widths))
        return indices

    def _spatial(self, order: Sequence[int]) -> _Fits:
        """Which choices leave threads, virtual threads and accumulators within their limits, knob after knob."""
        model = self._model
        threads, vthreads, inner = model.lanes, 1, 1
        m, n, _ = model.intrinsic
        for position, k in enumerate(order):
            table = self._tables[k]
            part = threads * table[:, model.thread_part]
            ones = np.ones(len(table), np.int64)
            virtual = vthreads * (table[:, model.vthread_part] if model.vthread_part >= 0 else ones)
            tile = inner * table[:, model.thread_part + 1 :].prod(axis=1)
            rest = _products(tuple(sorted(self._extent(r) for r in order[position + 1 :])), model.max_threads)
            index = yield (
                _completes(part, rest, model.min_threads, model.max_threads)
                & (virtual <= MAX_VTHREAD)
                & (tile * virtual * m * n // model.lanes <= MAX_ACCUMULATORS)
            )
            threads, vthreads, inner = int(part[index]), int(virtual[index]), int(tile[index])
        yield np.ones(0, bool)

    def _reduce(self, order: Sequence[int]) -> _Fits:
        """Which choices leave the reductions enough steps at their first two levels, knob after knob."""
        least = self._model.min_steps
        steps = [1, 1]
        for position, k in enumerate(order):
            table = self._tables[k]
            rest = math.prod(self._extent(r) for r in order[position + 1 :])
            index = yield (steps[0] * table[:, 0] * rest >= least[0]) & (steps[1] * table[:, 1] * rest >= least[1])
            steps = [made * int(part) for made, part in zip(steps, table[index], strict=False)]
        yield np.ones(0, bool)

    def _pick(self, knob: int, fits: NDArray[np.bool_], tiles: dict[int, int], rng: np.random.Generator) -> int | None:
        """A uniform choice among the values that fit and leave room in shared memory; None where there is none."""
        left = np.flatnonzero(fits)
        rng.shuffle(left)
        for index in left:
            trial = {**tiles, **self._model.tile(knob, self._knobs[knob].choices[index])}
            if self._model.shared_bytes(trial) <= self._model.max_shared:
                return int(index)
        return None

    @functools.cached_property
    def _tables(self) -> dict[int, Table]:
        """The tile knobs' choices as rows."""
        return {k: np.array(self._knobs[k].choices, np.int64) for k in (*self._model.spatial, *self._model.reduce)}

    def _extent(self, knob: int) -> int:
        return math.prod(parts_of(self._knobs[knob]))


@functools.lru_cache(maxsize=512)
def _products(extents: tuple[int, ...], most: int) -> tuple[int, ...]:
    """All products, at most `most`, of one divisor of each extent."""
    found = {1}
    for extent in extents:
        found = {p * d for p in found for d in divisors(extent) if p * d <= most}
    return tuple(sorted(found))


def _completes(part: Table, rest: Sequence[int], least: int, most: int) -> NDArray[np.bool_]:
    """Whether some product of the rest brings the threads into the limits."""
    whole = part[:, None] * np.asarray(rest)[None, :]
    answer: NDArray[np.bool_] = ((whole >= least) & (whole <= most)).any(axis=1)
    return answer
