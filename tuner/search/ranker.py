"""One cost model for all tasks of a run, and the feature vectors it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from costmodel.base import CostModel
from costmodel.dataset import CandidateOutcome, Dataset
from tuner.protocols import Featurizer

if TYPE_CHECKING:
    from kernels.space import Candidate

MIN_OUTCOMES = 16
"""Outcomes before a model is fitted at all, and new ones before it is fitted again: one batch."""

_MAX_OUTCOMES = 2000
"""Only the newest outcomes are learned from: fitting more would take over half a second a batch."""

MAX_EARLIER = 500
"""Outcomes of earlier runs that a search starts with: that many teach all they can, and each costs time at every
fit."""

_EARLIER_WEIGHT = 0.3
"""How much an outcome of another task or device counts beside one of this run."""


@dataclass(frozen=True)
class Prediction:
    """What a cost model expects of n candidates: `score`, higher for faster, with its `deviation`, and the probability
    that each is `valid`; all [n] float32."""

    score: NDArray[np.float32]
    deviation: NDArray[np.float32]
    valid: NDArray[np.float32]


class Ranker:
    """A cost model shared by all tasks, so that what one task learns helps the next.

    What is known of the same tasks on this machine is added like new outcomes; `remember` is for the rest.
    """

    def __init__(self, model: CostModel) -> None:
        self._model = model
        self._data = Dataset()
        self._groups: dict[str, int] = {}
        self._fitted = 0
        self._earlier = 0

    def __len__(self) -> int:
        return len(self._data)

    def task(self, key: str) -> TaskRanker:
        """The ranker as one task sees it; the same task key is always the same group."""
        return TaskRanker(self, self._groups.setdefault(key, len(self._groups)))

    def remember(self, key: str, vector: NDArray[np.float32], outcome: CandidateOutcome) -> None:
        """Add an outcome of another task or device. Raises RuntimeError after `add`: the oldest are dropped first."""
        if self._earlier != len(self._data):
            raise RuntimeError("earlier outcomes come before those of the search")
        self._data.add(self._groups.setdefault(key, len(self._groups)), vector, outcome)
        self._earlier += 1

    def add(self, group: int, vector: NDArray[np.float32], outcome: CandidateOutcome) -> None:
        """Add an outcome. Raises ValueError when the feature vector's length is not that of those before it."""
        self._data.add(group, vector, outcome)

    def count(self, group: int) -> int:
        return self._data.count(group)

    def predict(self, vectors: NDArray[np.float32]) -> Prediction:
        """What the model expects of feature vectors [n, d]; fits first when a batch of new outcomes has come in."""
        if len(self._data) - self._fitted >= MIN_OUTCOMES:
            known, outcomes, groups = self._data.arrays(last=_MAX_OUTCOMES)
            weights = np.ones(len(known), dtype=np.float32)
            weights[: max(self._earlier - (len(self._data) - len(known)), 0)] = _EARLIER_WEIGHT
            self._model.fit(known, outcomes, groups, weights)
            self._fitted = len(self._data)
        return Prediction(self._model.predict(vectors), self._model.uncertainty(vectors), self._model.validity(vectors))


class TaskRanker:
    """A shared ranker, bound to the group of one task. Made by `Ranker.task`."""

    def __init__(self, ranker: Ranker, group: int) -> None:
        self._ranker = ranker
        self._group = group

    def __len__(self) -> int:
        """How many outcomes of this task there are."""
        return self._ranker.count(self._group)

    def add(self, vector: NDArray[np.float32], outcome: CandidateOutcome) -> None:
        self._ranker.add(self._group, vector, outcome)

    def predict(self, vectors: NDArray[np.float32]) -> Prediction:
        return self._ranker.predict(vectors)


class FeatureCache:
    """A featurizer that computes no feature vector twice, and knows which it has."""

    def __init__(self, featurizer: Featurizer) -> None:
        self._featurizer = featurizer
        self._known: dict[Candidate, NDArray[np.float32] | None] = {}

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        """One feature vector [d] a candidate; None where the candidate cannot be scheduled."""
        missing = [c for c in dict.fromkeys(candidates) if c not in self._known]
        if missing:
            self._known.update(zip(missing, self._featurizer.vectors(missing), strict=True))
        return [self._known[c] for c in candidates]

    def put(self, candidate: Candidate, vector: NDArray[np.float32]) -> None:
        """Remember a feature vector computed before, e.g. one stored with a record."""
        self._known[candidate] = vector

    def get(self, candidate: Candidate) -> NDArray[np.float32] | None:
        """The feature vector when it is known already; None when it is not, or when the candidate has none."""
        return self._known.get(candidate)

    def __contains__(self, candidate: Candidate) -> bool:
        return candidate in self._known
