"""What a cost model learns from: rows of features, what became of them, and which belong together.

Times of different tasks are not comparable, so outcomes are only ever related within a group
(one task).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAILED = 0.0
"""The normalised throughput of a candidate that has no time: below every one that runs."""


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate: measured, given up, or failed.

    `seconds` is the measured time. `slower_than` is set instead when the candidate was given up: its
    true time in seconds is above it. With neither, it failed (did not build, crashed, was wrong).
    """

    seconds: float | None = None
    slower_than: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and self.slower_than is not None:
            raise ValueError("an outcome is measured or given up, not both")
        for value in (self.seconds, self.slower_than):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"times are positive and finite seconds, not {value}")


FAILURE = Outcome()


def normalised_throughput(outcomes: Sequence[Outcome], groups: NDArray[np.int64]) -> NDArray[np.float32]:
    """Best time of the group over own time: [n] float32 in [0, 1], 1 for the fastest of each group.

    Given-up candidates count as if they took exactly the time they exceeded, so everything faster
    than that ranks above them; failures are FAILED. A group in which nothing was measured is
    compared with the least time that was exceeded in it.
    """
    seconds = np.array([o.seconds or o.slower_than or np.inf for o in outcomes], dtype=np.float64)
    measured = np.array([o.seconds is not None for o in outcomes], dtype=bool)
    result = np.full(len(outcomes), FAILED, dtype=np.float32)
    for group in np.unique(groups):
        mine = groups == group
        known = mine & measured if (mine & measured).any() else mine & np.isfinite(seconds)
        if known.any():
            result[mine] = np.minimum(seconds[known].min() / seconds[mine], 1.0)
    return result


class Dataset:
    """Rows with outcomes, in the order they came. All rows have the same length."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float32]] = []
        self._groups: list[int] = []
        self._outcomes: list[Outcome] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, group: int, row: NDArray[np.float32], outcome: Outcome) -> None:
        """Append one row [d]. Raises ValueError when its length is not that of the rows before it."""
        if row.ndim != 1 or (self._rows and len(row) != len(self._rows[0])):
            known = len(self._rows[0]) if self._rows else "any"
            raise ValueError(f"a row of shape {row.shape} where the length is {known}")
        self._rows.append(np.asarray(row, dtype=np.float32))
        self._groups.append(group)
        self._outcomes.append(outcome)

    def count(self, group: int) -> int:
        return self._groups.count(group)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(self._outcomes)

    def arrays(self, last: int | None = None) -> tuple[NDArray[np.float32], list[Outcome], NDArray[np.int64]]:
        """Rows [n, d], outcomes [n] and groups [n]; only the `last` so many when given."""
        start = 0 if last is None else max(len(self) - last, 0)
        rows = np.stack(self._rows[start:]) if len(self) > start else np.zeros((0, 0), dtype=np.float32)
        return rows, self._outcomes[start:], np.array(self._groups[start:], dtype=np.int64)
