"""A recorded space as a design space, so that every strategy can search it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.space import Candidate, DesignSpace, Knob, Sketch

_CATEGORIES = 4
"""Whole numbers from 0 to at most this many less one name methods more often than they count something."""

_FEW = 6
"""With at least so many values, how often two divides them says something that their size does not."""


@dataclass(frozen=True, eq=False)
class RecordedSpace(DesignSpace):
    """One sketch with one knob a parameter, whose decisions are the indices of the values.

    Legal is what `choices` [n, parameters] lists, and nothing else. Nothing but values and legality
    is known here: no names, no times.
    """

    values: tuple[tuple[Any, ...], ...] = ()
    choices: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int16), repr=False)

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
        """The legal combination closest to the middle of all: a recording does not say what its authors began with."""
        rows = self.rows
        return self.candidate(int(np.argmin(((rows - rows.mean(axis=0)) ** 2).sum(axis=1))))

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

    def seeds(self, limit: int = 24) -> list[Candidate]:
        """None: what a good first guess is cannot be known without knowing what the parameters mean."""
        return []

    # --- numbers --------------------------------------------------------------------------------------

    def candidate(self, number: int) -> Candidate:
        return Candidate(0, tuple(self.choices[number].tolist()))

    def points(self) -> list[Candidate]:
        return [Candidate(0, tuple(row)) for row in self.choices.tolist()]

    def encodings(self, candidates: Sequence[Candidate]) -> NDArray[np.float32]:
        choices = np.array([c.decisions for c in candidates], dtype=np.int64)
        return np.concatenate([t[c] for t, c in zip(self._tables, choices.T, strict=True)], axis=1)

    def encode(self, candidate: Candidate) -> NDArray[np.float32]:
        row: NDArray[np.float32] = np.concatenate(
            [table[i] for table, i in zip(self._tables, candidate.decisions, strict=True)]  # type: ignore[call-overload]
        )
        return row

    @functools.cached_property
    def rows(self) -> NDArray[np.float32]:
        """The encodings of all legal combinations [n, columns]."""
        return np.concatenate([t[c] for t, c in zip(self._tables, self.choices.T, strict=True)], axis=1)

    @functools.cached_property
    def _tables(self) -> list[NDArray[np.float32]]:
        return [_columns(values) for values in self.values]


def _columns(values: Sequence[Any]) -> NDArray[np.float32]:
    """The columns of one parameter [values, columns]: sizes by their logarithm, methods one by one, the rest in order.

    A parameter with a single value has none. Sizes that are not all powers of two have a second
    column, how often two divides them: warps, vectors and cache lines care.
    """
    n = len(values)
    if n < 2:
        return np.zeros((n, 0), dtype=np.float32)
    numbers = all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
    if not numbers or (2 < n <= _CATEGORIES and sorted(values) == list(range(n))):
        return np.eye(n, dtype=np.float32)
    sizes = np.array(values, dtype=np.float64)
    if sizes.min() <= 0 or sizes.max() <= 2 * sizes.min():
        order = np.argsort(np.argsort(sizes))
        return (order / (n - 1)).astype(np.float32)[:, None]
    columns = [np.log2(sizes)]
    twos = np.array([_twos(v) for v in values], dtype=np.float64)
    if n >= _FEW and len(set(twos)) > 1 and len(set(twos)) < n - 1:
        columns.append(twos)
    return np.stack([(c - c.min()) / (c.max() - c.min()) for c in columns], axis=1).astype(np.float32)


def _twos(value: float) -> int:
    """How often two divides a whole number, six times at most; 0 for others."""
    whole = int(value)
    return min((whole & -whole).bit_length() - 1, 6) if whole == value and whole else 0
