"""What a cost model is, and the one that knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from costmodel.dataset import Outcome


class CostModel(Protocol):
    """Orders candidates of one task by how fast they will be."""

    def fit(
        self,
        rows: NDArray[np.float32],
        outcomes: Sequence[Outcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Forget everything and learn from rows [n, d] whose outcomes are comparable within a group.

        `weights` [n] say how much each row counts; all alike when not given.
        """

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores [n], finite, higher for faster; comparable within a task only. Zeros before `fit`."""

    def uncertainty(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The standard deviation of the scores [n], where the model knows of one; else zeros, as before `fit`."""

    def validity(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability that a candidate builds, runs and is right [n]; ones where the model cannot tell."""


class ConstantModel:
    """Thinks all candidates equal: with it, a guided search is as good as its proposers."""

    def fit(
        self,
        rows: NDArray[np.float32],
        outcomes: Sequence[Outcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        pass

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros(len(rows), dtype=np.float32)

    def uncertainty(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros(len(rows), dtype=np.float32)

    def validity(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones(len(rows), dtype=np.float32)
