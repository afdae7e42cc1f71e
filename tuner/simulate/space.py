"""A recorded space as a design space, so that every strategy can search it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.space import Candidate, DesignSpace, Knob, Sketch

PriorMean = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_CATEGORIES = 4
"""Whole numbers from 0 to at most this many less one are taken for names of methods, not for sizes."""

_METHOD, _SIZE, _POWER = 0, 1, 2
_PRIOR_SCALE = {_SIZE: 0.175, _POWER: 0.35}
"""The deviation of each part of the prior mean over the legal combinations, in deviations of the log seconds. Half of
what was best for six spaces: values chosen by looking at them are too large for others (experiments/replay)."""


@dataclass(frozen=True, eq=False)
class RecordedSpace(DesignSpace):
    """One sketch with one knob a parameter, whose decisions are the indices of the values.

    `choices` [n, parameters] lists the legal combinations. `learned` is a prior mean from recordings of other devices.
    A strategy sees values and legality only, no names and no times.
    """

    values: tuple[tuple[Any, ...], ...] = ()
    choices: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int16), repr=False)
    learned: PriorMean | None = None

    @staticmethod
    def of(values: Sequence[Sequence[Any]], choices: NDArray[np.int16]) -> RecordedSpace:
        """The space in which parameter j has `values[j]`, and `choices` lists the legal combinations by index."""
        knobs = tuple(Knob("choice", tuple(range(len(v))), j) for j, v in enumerate(values))
        sketch = Sketch(0, "", knobs)
        return RecordedSpace("recorded", (sketch,), (), values=tuple(tuple(v) for v in values), choices=choices)

    def __hash__(self) -> int:
        return id(self)

    @functools.cached_property
    def number(self) -> Mapping[tuple[int, ...], int]:
        """Which row of `choices` a combination is."""
        return {tuple(row): i for i, row in enumerate(self.choices.tolist())}

    # --- legality and moves -------------------------------------------------------------------------

    def legal(self, candidate: Candidate) -> bool:
        return candidate.sketch == 0 and candidate.decisions in self.number

    def default(self) -> Candidate:
        """The legal combination closest to the mean of all: a recording has no default of its own."""
        encodings = self.all_encodings
        return self.candidate(int(np.argmin(((encodings - encodings.mean(axis=0)) ** 2).sum(axis=1))))

    def sample(self, rng: np.random.Generator, vary_passes: float = 0.0) -> Candidate:
        """Uniform over the legal combinations."""
        return self.candidate(int(rng.integers(len(self.choices))))

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """Every legal candidate that differs in one parameter."""
        base = candidate.decisions
        for j, values in enumerate(self.values):
            for i in range(len(values)):
                moved = (*base[:j], i, *base[j + 1 :])
                if i != base[j] and moved in self.number:
                    yield Candidate(0, moved)

    def initial_candidates(self, limit: int = 24) -> list[Candidate]:
        """None: they cannot be chosen without knowing what the parameters mean."""
        return []

    # --- numbers --------------------------------------------------------------------------------------

    def candidate(self, number: int) -> Candidate:
        """The combination in a row of `choices`."""
        return Candidate(0, tuple(self.choices[number].tolist()))

    def points(self) -> list[Candidate]:
        """All legal combinations, in the order of `choices`."""
        return [Candidate(0, tuple(row)) for row in self.choices.tolist()]

    def encodings(self, candidates: Sequence[Candidate]) -> NDArray[np.float32]:
        choices = np.array([c.decisions for c in candidates], dtype=np.int64)
        return np.concatenate([t[c] for t, c in zip(self._tables, choices.T, strict=True)], axis=1)

    def encode(self, candidate: Candidate) -> NDArray[np.float32]:
        encoding: NDArray[np.float32] = np.concatenate(
            [table[i] for table, i in zip(self._tables, candidate.decisions, strict=True)]
        )
        return encoding

    @functools.cached_property
    def all_encodings(self) -> NDArray[np.float32]:
        """The encodings of all legal combinations [n, columns], in the order of `choices`."""
        return np.concatenate([t[c] for t, c in zip(self._tables, self.choices.T, strict=True)], axis=1)

    @property
    def prior_mean(self) -> PriorMean:
        """The one learned from recordings of other devices; without any, one from the values alone."""
        return self.learned or self._prior_of_values

    def _prior_of_values(self, encodings: NDArray[np.float32]) -> NDArray[np.float64]:
        """The prior mean of encodings [n, columns]: log seconds, in deviations from their mean [n].

        Larger sizes (more work for a thread, wider vectors) and powers of two (warps, banks, cache lines) are
        faster more often than not. It uses no names and no times: it is what holds for most kernels and devices
        whatever a parameter means.
        """
        weights, middle = self._prior_weights
        return middle - encodings.astype(np.float64) @ weights

    @functools.cached_property
    def _prior_weights(self) -> tuple[NDArray[np.float64], float]:
        kinds = np.concatenate([k for _, k in self._columns])
        weights = np.zeros(len(kinds))
        for kind, scale in _PRIOR_SCALE.items():
            part = self.all_encodings[:, kinds == kind].sum(axis=1)
            if len(part) and part.std() > 0:
                weights[kinds == kind] = scale / part.std()
        return weights, float((self.all_encodings @ weights).mean())

    @functools.cached_property
    def _tables(self) -> list[NDArray[np.float32]]:
        return [table for table, _ in self._columns]

    @functools.cached_property
    def _columns(self) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        return [_columns(values) for values in self.values]


def _columns(values: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The columns of one parameter [values, columns], and the kind of each.

    Sizes by their logarithm, methods one by one, the rest in order. A parameter with a single value has no
    column. Sizes of which only some are powers of two have a second column that says which.
    """
    n = len(values)
    if n < 2:
        return np.zeros((n, 0), dtype=np.float32), np.zeros(0, dtype=np.int64)
    numbers = all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
    if not numbers or (2 < n <= _CATEGORIES and sorted(values) == list(range(n))):
        return np.eye(n, dtype=np.float32), np.full(n, _METHOD)
    sizes = np.array(values, dtype=np.float64)
    if sizes.min() <= 0 or sizes.max() <= 2 * sizes.min():
        order = np.argsort(np.argsort(sizes)) / (n - 1)
        return order.astype(np.float32)[:, None], np.array([_SIZE if n > 2 else _METHOD])
    columns = [np.log2(sizes / sizes.min()) / np.log2(sizes.max() / sizes.min())]
    powers = np.array([float(v) == 2 ** round(math.log2(v)) for v in values])
    if powers.any() and not powers.all():
        columns.append(powers.astype(np.float64))
    return np.stack(columns, axis=1).astype(np.float32), np.array([_SIZE, _POWER][: len(columns)])
