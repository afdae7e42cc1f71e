"""What every cost model promises. A test module subclasses CostModelContract and says how to make one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from costmodel.base import CostModel
from costmodel.dataset import FAILURE, CandidateOutcome

Sample = tuple[NDArray[np.float32], list[CandidateOutcome], NDArray[np.int64]]


def synthetic(count: int, seed: int = 0, columns: int = 40, groups: int = 2) -> Sample:
    """Feature vectors of which three columns decide the time and a fourth whether they fail; every seventh is given up.

    Times of the groups differ by a factor of 100.
    """
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 8, size=(count, columns)).astype(np.float32)
    features[:, -5:] = 1.0
    task = rng.integers(0, groups, size=count).astype(np.int64)
    seconds = synthetic_seconds(features) * 100.0**task
    outcomes = [
        FAILURE if failed else CandidateOutcome(slower_than=s) if i % 7 == 6 else CandidateOutcome(seconds=s)
        for i, (s, failed) in enumerate(zip(seconds.tolist(), fails(features), strict=True))
    ]
    return features, outcomes, task


def fails(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.equal(features[:, 3], 2)


def synthetic_seconds(features: NDArray[np.float32]) -> NDArray[np.float64]:
    distance = np.abs(features[:, 0] - 4) + 0.5 * np.abs(features[:, 1] - features[:, 2])
    seconds: NDArray[np.float64] = 1e-3 * np.exp(0.4 * distance.astype(np.float64))
    return seconds


class CostModelContract:
    def make(self, seed: int = 0) -> CostModel:
        raise NotImplementedError

    def test_knows_nothing_at_first(self) -> None:
        features, _, _ = synthetic(5)
        model = self.make()
        assert model.predict(features).tolist() == model.uncertainty(features).tolist() == [0.0] * 5
        assert model.validity(features).tolist() == [1.0] * 5

    @pytest.mark.parametrize("count", [16, 200])
    def test_scores_are_finite_and_one_a_row(self, count: int) -> None:
        model = self.make()
        model.fit(*synthetic(count))
        scores = model.predict(synthetic(30, seed=1)[0])
        assert scores.shape == (30,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    @pytest.mark.parametrize("count", [16, 200])
    def test_doubts_are_numbers_one_a_row(self, count: int) -> None:
        model = self.make()
        model.fit(*synthetic(count))
        features = synthetic(30, seed=1)[0]
        assert model.uncertainty(features).shape == model.validity(features).shape == (30,)
        assert np.isfinite(model.uncertainty(features)).all()
        assert (model.uncertainty(features) >= 0).all()
        assert ((model.validity(features) >= 0) & (model.validity(features) <= 1)).all()

    def test_no_vectors_no_scores(self) -> None:
        model = self.make()
        model.fit(*synthetic(16))
        assert model.predict(np.zeros((0, 40), dtype=np.float32)).shape == (0,)

    @pytest.mark.parametrize("outcome", [FAILURE, CandidateOutcome(slower_than=1.0), CandidateOutcome(seconds=0.1)])
    def test_accepts_outcomes_that_are_all_alike(self, outcome: CandidateOutcome) -> None:
        features, _, groups = synthetic(16)
        model = self.make()
        model.fit(features, [outcome] * 16, groups)
        assert np.isfinite(model.predict(features)).all()

    def test_accepts_features_that_are_not_finite(self) -> None:
        features, outcomes, groups = synthetic(32)
        features[3, 4], features[5, 6], features[7, 8] = np.nan, np.inf, -np.inf
        model = self.make()
        model.fit(features, outcomes, groups)
        assert np.isfinite(model.predict(features)).all()

    def test_deterministic_for_a_seed(self) -> None:
        features = synthetic(50, seed=1)[0]
        scores = []
        for _ in range(2):
            model = self.make(seed=3)
            model.fit(*synthetic(100))
            scores.append(model.predict(features).tolist())
        assert scores[0] == scores[1]

    def test_fit_forgets(self) -> None:
        features = synthetic(50, seed=1)[0]
        twice, once = self.make(), self.make()
        twice.fit(*synthetic(60, seed=5))
        for model in (twice, once):
            model.fit(*synthetic(100))
        assert twice.predict(features).tolist() == once.predict(features).tolist()
