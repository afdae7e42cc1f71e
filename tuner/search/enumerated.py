"""All legal points of a space that can be listed, and the part of them that is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

ACTIVE = 4000
"""Points predicted at a time: all of a small space; of a larger one random points and those nearest to the fastest."""

_NEAR = 0.25
"""The share of the active points that is near the fastest."""

PARENTS = 5
"""The fastest candidates whose surroundings are active."""


class Points:
    """Legal points by number, with their encodings [n, columns], and which of them are still open."""

    def __init__(self, space: DesignSpace, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.encodings = space.encodings(candidates)
        self.open = np.ones(len(candidates), dtype=np.bool_)
        self._number = {c: i for i, c in enumerate(candidates)}
        span = np.ptp(self.encodings, axis=0)
        self._scaled = self.encodings / np.where(span > 0, span, 1)

    def close(self, candidate: Candidate) -> None:
        """The point is not to be proposed any more. Candidates that are no points are ignored."""
        number = self._number.get(candidate)
        if number is not None:
            self.open[number] = False

    def active(self, fastest: Sequence[Candidate], rng: np.random.Generator) -> NDArray[np.int64]:
        """The numbers of the points to predict: at most ACTIVE."""
        if len(self.encodings) <= ACTIVE:
            return np.arange(len(self.encodings))
        near = round(_NEAR * ACTIVE)
        scattered = rng.choice(len(self.encodings), ACTIVE - near, replace=False)
        parents = [self._number[c] for c in fastest if c in self._number]
        if not parents:
            return np.sort(scattered)
        distance = self._distance(parents[0])
        for parent in parents[1:]:
            distance = np.minimum(distance, self._distance(parent))
        return np.union1d(scattered, np.argpartition(np.where(self.open, distance, np.inf), near)[:near])

    def _distance(self, number: int) -> NDArray[np.float32]:
        distance: NDArray[np.float32] = ((self._scaled - self._scaled[number]) ** 2).sum(axis=1)
        return distance
