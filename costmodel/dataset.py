"""What a cost model learns from: feature vectors, the outcome of each, and which belong together.

Times of different tasks are not comparable, so outcomes are only related within a group (one task).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAILED = 0.0
"""The normalised throughput of a candidate that has no time: below every one that runs."""


@dataclass(frozen=True)
class CandidateOutcome:
    """The outcome for one candidate: measured, given up, or failed.

    `seconds` is the measured time. `slower_than` is set instead when the candidate was given up: its true time in
    seconds is above it. With neither, it failed (did not build, crashed, was wrong).
    """

    seconds: float | None = None
    slower_than: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and self.slower_than is not None:
            raise ValueError("an outcome is measured or given up, not both")
        for value in (self.seconds, self.slower_than):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"times are positive and finite seconds, not {value}")


FAILURE = CandidateOutcome()


def normalised_throughput(outcomes: Sequence[CandidateOutcome], groups: NDArray[np.int64]) -> NDArray[np.float32]:
    """Best time of the group over own time: [n] float32 in [0, 1], 1 for the fastest of each group.

    Given-up candidates count as if they took exactly the time they exceeded, so everything faster than that ranks above
    them; failures are FAILED. A group in which nothing was measured is compared with the least time that was exceeded
    in it.
    """
    seconds = np.array([o.seconds or o.slower_than or np.inf for o in outcomes], dtype=np.float64)
    measured = np.array([o.seconds is not None for o in outcomes], dtype=bool)
    throughput = np.full(len(outcomes), FAILED, dtype=np.float32)
    for group in np.unique(groups):
        members = groups == group
        known = members & measured if (members & measured).any() else members & np.isfinite(seconds)
        if known.any():
            throughput[members] = np.minimum(seconds[known].min() / seconds[members], 1.0)
    return throughput


# --- features by name -----------------------------------------------------------------------------


def align(
    values: Sequence[float], columns: Sequence[str], wanted: Sequence[str], defaults: Mapping[str, float]
) -> NDArray[np.float32] | None:
    """A feature vector of named columns as a vector of the `wanted` columns [len(wanted)].

    Columns that are not wanted are dropped, and missing ones have their default. None where a wanted column is missing
    and has no default, or where there are not as many values as columns. Takes microseconds: pass tuples, for which the
    positions are computed once.
    """
    if len(values) != len(columns):
        return None
    given = np.asarray(values, dtype=np.float32)
    names, wanted_names = tuple(columns), tuple(wanted)
    if names == wanted_names:
        return given.copy()
    present, sources, missing = _positions(names, wanted_names)
    if any(wanted_names[i] not in defaults for i in missing):
        return None
    aligned = np.empty(len(wanted_names), dtype=np.float32)
    aligned[present] = given[sources]
    aligned[missing] = [defaults[wanted_names[i]] for i in missing]
    return aligned


@functools.lru_cache(maxsize=256)
def _positions(
    columns: tuple[str, ...], wanted: tuple[str, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Which wanted columns are present, their positions among the columns, and which wanted ones are missing."""
    position = {name: i for i, name in enumerate(columns)}
    present = [i for i, name in enumerate(wanted) if name in position]
    missing = [i for i, name in enumerate(wanted) if name not in position]
    sources = [position[wanted[i]] for i in present]
    return np.array(present, np.intp), np.array(sources, np.intp), np.array(missing, np.intp)


# --- collecting -----------------------------------------------------------------------------------


class Dataset:
    """Feature vectors of one length with their outcomes, in the order they were added."""

    def __init__(self) -> None:
        self._vectors: list[NDArray[np.float32]] = []
        self._groups: list[int] = []
        self._outcomes: list[CandidateOutcome] = []

    def __len__(self) -> int:
        return len(self._vectors)

    def add(self, group: int, vector: NDArray[np.float32], outcome: CandidateOutcome) -> None:
        """Append a feature vector [d]. Raises ValueError when its length is not that of the vectors before it."""
        if vector.ndim != 1 or (self._vectors and len(vector) != len(self._vectors[0])):
            length = len(self._vectors[0]) if self._vectors else "any"
            raise ValueError(f"a feature vector of shape {vector.shape} where the length is {length}")
        self._vectors.append(np.asarray(vector, dtype=np.float32))
        self._groups.append(group)
        self._outcomes.append(outcome)

    def count(self, group: int) -> int:
        """The number of vectors of a group."""
        return self._groups.count(group)

    @property
    def outcomes(self) -> tuple[CandidateOutcome, ...]:
        return tuple(self._outcomes)

    def arrays(self, last: int | None = None) -> tuple[NDArray[np.float32], list[CandidateOutcome], NDArray[np.int64]]:
        """Feature vectors [n, d], outcomes [n] and groups [n]; only the `last` so many when given."""
        start = 0 if last is None else max(len(self) - last, 0)
        features = np.stack(self._vectors[start:]) if len(self) > start else np.zeros((0, 0), dtype=np.float32)
        return features, self._outcomes[start:], np.array(self._groups[start:], dtype=np.int64)
