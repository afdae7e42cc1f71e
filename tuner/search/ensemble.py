"""How far each of two judges is to be trusted, by what it said about candidates before they were measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from costmodel.metrics import pairwise_accuracy, ranks

_REMEMBERED = 48
_LEAST_HEARD = 8
"""Outcomes that the judges must have foretold before one is trusted more than the other."""

_LEAST_WEIGHT = 0.02
"""Nobody is ignored for good: the judge that is wrong now may be right about the next neighbourhood."""


class EnsembleWeights:
    """Weights of judges by the share of pairs of outcomes that they ordered right."""

    def __init__(self, judges: int) -> None:
        self._judges = judges
        self._heard: deque[tuple[tuple[float, ...], float]] = deque(maxlen=_REMEMBERED)

    def hear(self, said: Sequence[float], seconds: float) -> None:
        """One outcome: what each judge had said of it (higher for faster), and its seconds."""
        self._heard.append((tuple(said), seconds))

    def weights(self) -> NDArray[np.float64]:
        """One weight a judge, of sum 1; equal ones while little has been heard."""
        if len(self._heard) < _LEAST_HEARD:
            return np.full(self._judges, 1 / self._judges)
        seconds = [s for _, s in self._heard]
        right = [pairwise_accuracy([said[j] for said, _ in self._heard], seconds) for j in range(self._judges)]
        weight = np.maximum(np.array(right) - 0.5, _LEAST_WEIGHT) ** 2
        normalised: NDArray[np.float64] = weight / weight.sum()
        return normalised

    def combined(self, scores: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
        """One score a candidate from those of all judges [judges][n]: the weighted mean of their ranks."""
        mixed: NDArray[np.float64] = self.weights() @ np.stack([ranks(np.asarray(s, dtype=np.float64)) for s in scores])
        return mixed
