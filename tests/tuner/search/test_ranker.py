from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from costmodel.base import ConstantModel
from costmodel.dataset import FAILURE, CandidateOutcome
from costmodel.metrics import rank_correlation
from costmodel.xgb import XgbRanker
from kernels.space import Candidate, DesignSpace
from tests.contracts.strategy import EncodingFeaturizer, synthetic_seconds
from tuner.search.ranker import MIN_OUTCOMES, FeatureCache, Ranker


class CountingModel(ConstantModel):
    """The constant model, which remembers how many feature vectors it was fitted on."""

    def __init__(self) -> None:
        self.fits: list[int] = []
        self.weights: NDArray[np.float32] | None = None

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self.fits.append(len(features))
        self.weights = weights


class CountingFeaturizer(EncodingFeaturizer):
    """Encodings, except for one candidate that cannot be scheduled; remembers what it was asked."""

    def __init__(self, space: DesignSpace, bad: Candidate) -> None:
        super().__init__(space)
        self._bad = bad
        self.asked: list[Candidate] = []

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        self.asked += candidates
        pairs = zip(candidates, super().vectors(candidates), strict=True)
        return [None if c == self._bad else vector for c, vector in pairs]


def test_fits_when_a_batch_of_news_is_in() -> None:
    model = CountingModel()
    ranker = Ranker(model)
    task, vector = ranker.task("a"), np.zeros(3, dtype=np.float32)
    for _ in range(2 * MIN_OUTCOMES):
        task.add(vector, FAILURE)
        task.predict(vector[None])
        task.predict(vector[None])
    assert model.fits == [MIN_OUTCOMES, 2 * MIN_OUTCOMES]


def test_what_others_learned_counts_less() -> None:
    model = CountingModel()
    ranker = Ranker(model)
    vector = np.zeros(3, dtype=np.float32)
    for _ in range(10):
        ranker.remember("elsewhere", vector, FAILURE)
    for _ in range(10):
        ranker.task("a").add(vector, FAILURE)
    ranker.predict(vector[None])
    assert model.weights is not None
    assert model.weights.tolist() == pytest.approx([0.3] * 10 + [1.0] * 10)
    with pytest.raises(RuntimeError, match="come before"):
        ranker.remember("elsewhere", vector, FAILURE)


def test_a_task_key_is_one_group() -> None:
    ranker = Ranker(ConstantModel())
    for key in ("a", "b", "a"):
        ranker.task(key).add(np.zeros(3, dtype=np.float32), FAILURE)
    assert (len(ranker.task("a")), len(ranker.task("b")), len(ranker)) == (2, 1, 3)


def test_what_one_task_learned_helps_the_next(space: DesignSpace) -> None:
    ranker = Ranker(XgbRanker("encoding/1"))
    rng = np.random.default_rng(0)
    for _ in range(300):
        candidate = space.sample(rng)
        ranker.task("first").add(space.encode(candidate), CandidateOutcome(seconds=synthetic_seconds(space, candidate)))
    fresh = [space.sample(rng) for _ in range(100)]
    predicted = ranker.task("second").predict(np.stack([space.encode(c) for c in fresh]))
    assert rank_correlation(predicted.score, [synthetic_seconds(space, c) for c in fresh]) > 0.7
    assert predicted.deviation.max() > 0
    assert predicted.valid.tolist() == [1.0] * 100


def test_no_feature_vector_is_computed_twice(space: DesignSpace) -> None:
    rng = np.random.default_rng(0)
    a, bad, stored = (space.sample(rng) for _ in range(3))
    featurizer = CountingFeaturizer(space, bad)
    cache = FeatureCache(featurizer)
    cache.put(stored, np.ones(2, dtype=np.float32))
    for _ in range(2):
        vector, none, old, repeated = cache.vectors([a, bad, stored, a])
        assert vector is repeated
        assert none is None
        assert old is not None
        assert old.tolist() == [1, 1]
    assert featurizer.asked == [a, bad]
    assert cache.get(a) is vector
    assert cache.get(bad) is None
    assert bad in cache
