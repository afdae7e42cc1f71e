"""The interface of cost models, and the model that knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from costmodel.dataset import CandidateOutcome


class CostModel(Protocol):
    """Orders candidates of one task by predicted speed."""

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Forget everything, then learn from feature vectors [n, d] whose outcomes are comparable within a group.

        `weights` [n] say how much each vector counts; equally when not given.
        """

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores [n], finite, higher for faster; comparable within a task only. Zeros before `fit`."""

    def uncertainty(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standard deviations of the scores [n]; zeros where the model has none, and before `fit`."""

    def validity(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability that a candidate builds, runs and is right [n]; ones where the model has none."""


class ConstantModel:
    """Gives all candidates the same score: with it a guided search is as good as its proposers."""

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        pass

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros(len(features), dtype=np.float32)

    def uncertainty(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros(len(features), dtype=np.float32)

    def validity(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones(len(features), dtype=np.float32)
