import math

import numpy as np
import pytest
from numpy.typing import NDArray

from costmodel.dataset import FAILURE, CandidateOutcome
from tuner.search.ensemble import EnsembleWeights
from tuner.search.enumerated import ACTIVE, Points
from tuner.search.surrogate import Surrogate, expected_improvement
from tuner.simulate.space import RecordedSpace


def grid(width: int = 12) -> NDArray[np.float32]:
    """Two columns that matter, one constant."""
    a, b = np.meshgrid(np.arange(width), np.arange(width))
    return np.stack([a.ravel(), b.ravel(), np.full(width * width, 3)], axis=1).astype(np.float32)


def seconds(point: NDArray[np.float32]) -> float:
    return 1e-3 * math.exp(0.05 * ((float(point[0]) - 8) ** 2 + (float(point[1]) - 3) ** 2))


def told(points: NDArray[np.float32], count: int, seed: int = 0) -> tuple[Surrogate, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    surrogate = Surrogate(points, rng)
    open_ = np.ones(len(points), dtype=np.bool_)
    for i in rng.choice(len(points), count, replace=False):
        surrogate.add(points[i], CandidateOutcome(seconds=seconds(points[i])))
        open_[i] = False
    return surrogate, open_


def test_nothing_to_go_by_without_two_times() -> None:
    surrogate, _ = told(grid(), 1)
    assert not surrogate.useful
    surrogate.add(grid()[0], FAILURE)
    assert not surrogate.useful
    surrogate.add(grid()[1], CandidateOutcome(seconds=1.0))
    assert surrogate.useful


def test_finds_the_fastest_of_144_in_a_dozen_more() -> None:
    points = grid()
    surrogate, open_ = told(points, 5)
    proposed = []
    for _ in range(12):
        if surrogate.due:
            surrogate.look_at(points)
        [i] = surrogate.pick(1, open_)
        open_[i] = False
        proposed.append(seconds(points[i]))
        surrogate.add(points[i], CandidateOutcome(seconds=proposed[-1]))
    assert min(proposed) < 1.06e-3


def test_a_batch_is_spread_and_open() -> None:
    points = grid()
    surrogate, open_ = told(points, 20)
    surrogate.look_at(points)
    picked = surrogate.pick(8, open_)
    assert len(set(picked)) == 8
    assert open_[picked].all()
    apart = np.abs(points[picked][:, None] - points[picked][None]).max(axis=2)
    assert apart.max() > 1  # not eight points next to each other
    assert surrogate.pick(500, open_) and len(surrogate.pick(500, open_)) == open_.sum()


def test_failures_are_avoided() -> None:
    points = grid()
    surrogate, _ = told(points, 10)
    for point in points[points[:, 0] >= 6][::3]:
        surrogate.add(point, FAILURE)
    surrogate.look_at(points)
    _, mean = surrogate.predict()
    assert mean[points[:, 0] >= 7].mean() > mean[points[:, 0] <= 4].mean()


def test_given_up_counts_as_what_it_exceeded_and_foreign_encodings_do_not_break_it() -> None:
    points = grid()
    surrogate, open_ = told(points, 10)
    surrogate.add(points[0], CandidateOutcome(slower_than=1.0))
    surrogate.add(np.full(3, 99, dtype=np.float32), CandidateOutcome(seconds=1.0))
    surrogate.look_at(points)
    assert surrogate.pick(1, open_)


def test_a_prior_mean_decides_first_and_is_unlearned() -> None:
    points = grid()
    surrogate = Surrogate(
        points, np.random.default_rng(0), prior_mean=lambda encodings: np.asarray((encodings[:, 0] - 5.5) / 3.5)
    )
    open_ = np.ones(len(points), dtype=np.bool_)
    surrogate.look_at(points)
    _, mean = surrogate.predict()
    assert points[int(np.argmin(mean))][0] == 0
    for point in points[::3]:
        surrogate.add(point, CandidateOutcome(seconds=seconds(point)))
    surrogate.look_at(points)
    _, mean = surrogate.predict()
    assert abs(points[int(np.argmin(mean))][0] - 8) <= 1
    assert surrogate.pick(1, open_)


def test_expected_improvement_is_an_expectation() -> None:
    drawn = np.random.default_rng(0).normal(0.3, 0.7, 400_000)
    gain = expected_improvement(0.1, np.array([0.3]), np.array([0.7]))
    assert gain[0] == pytest.approx(np.maximum(0.1 - drawn, 0).mean(), rel=0.02)


def test_the_predictor_that_orders_right_counts_most() -> None:
    ensemble = EnsembleWeights(2)
    assert ensemble.weights().tolist() == [0.5, 0.5]
    rng = np.random.default_rng(0)
    for _ in range(40):
        time = float(rng.random()) + 0.1
        ensemble.observe((-time, float(rng.random())), time)
    right, wrong = ensemble.weights()
    assert right > 10 * wrong > 0
    mixed = ensemble.combined([np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])])
    assert np.argmax(mixed) == 0


def test_a_predictor_without_a_preference_changes_nothing() -> None:
    mixed = EnsembleWeights(2).combined([np.array([1.0, 3.0, 2.0]), np.zeros(3)])
    assert np.argsort(-mixed).tolist() == [1, 2, 0]


def test_of_many_points_some_and_the_nearest_are_looked_at() -> None:
    values = tuple(tuple(range(1, 31)) for _ in range(3))
    choices = np.stack(np.meshgrid(*[np.arange(30)] * 3), axis=-1).reshape(-1, 3).astype(np.int16)
    space = RecordedSpace.of(values, choices)
    candidates = space.points()
    points = Points(space, candidates)
    best = candidates[17_000]
    active = points.active([best], np.random.default_rng(0))
    assert 0.9 * ACTIVE < len(set(active.tolist())) == len(active) <= ACTIVE
    near = {space.number[n.decisions] for n in space.neighbours(best) if _step(n.decisions, best.decisions) == 1}  # type: ignore[index]
    assert len(near) >= 5
    assert near <= set(active.tolist())


def _step(a: tuple[object, ...], b: tuple[object, ...]) -> int:
    return int(sum(abs(int(x) - int(y)) for x, y in zip(a, b, strict=True)))  # type: ignore[call-overload]
