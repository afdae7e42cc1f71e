"""How much each predictor counts, by what it predicted of candidates before they were measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from costmodel.metrics import pairwise_accuracy, ranks

_REMEMBERED = 48
_FEWEST = 8
"""Outcomes that must have been predicted before one predictor counts more than another."""

_LEAST_WEIGHT = 0.02
"""No predictor is ignored for good: one that is wrong now may be right about the next neighbourhood."""


class EnsembleWeights:
    """Weights of predictors by the share of pairs of outcomes that each ordered right."""

    def __init__(self, predictors: int) -> None:
        self._predictors = predictors
        self._observed: deque[tuple[tuple[float, ...], float]] = deque(maxlen=_REMEMBERED)

    def observe(self, predicted: Sequence[float], seconds: float) -> None:
        """One outcome: the score that each predictor had given it (higher for faster), and its seconds."""
        self._observed.append((tuple(predicted), seconds))

    def weights(self) -> NDArray[np.float64]:
        """One weight a predictor, of sum 1; equal ones while few outcomes were observed."""
        if len(self._observed) < _FEWEST:
            return np.full(self._predictors, 1 / self._predictors)
        seconds = [s for _, s in self._observed]
        accuracy = [
            pairwise_accuracy([predicted[i] for predicted, _ in self._observed], seconds)
            for i in range(self._predictors)
        ]
        weight = np.maximum(np.array(accuracy) - 0.5, _LEAST_WEIGHT) ** 2
        normalised: NDArray[np.float64] = weight / weight.sum()
        return normalised

    def combined(self, scores: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
        """One score a candidate from those of all predictors [predictors][n]: the weighted mean of their ranks."""
        mixed: NDArray[np.float64] = self.weights() @ np.stack([ranks(np.asarray(s, dtype=np.float64)) for s in scores])
        return mixed
