"""The processes against textbook formulas, and what they predict from a dozen outcomes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from costmodel.gp import Hyperparameters, Posterior, Prior


def sample(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Inputs of three columns, of which the third does not matter."""
    inputs = np.random.default_rng(seed).random((count, 3)).astype(np.float32)
    targets = np.sin(5 * inputs[:, 0].astype(np.float64)) + inputs[:, 1]
    return inputs, (targets - targets.mean()) / targets.std()


def matern(a: NDArray[np.float64], b: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    distance = np.sqrt((((a[:, None] - b[None]) / lengths) ** 2).sum(axis=2))
    r = np.sqrt(5) * distance
    result: NDArray[np.float64] = (1 + r + r**2 / 3) * np.exp(-r)
    return result


def test_the_moments_are_those_of_the_textbook() -> None:
    inputs, targets = sample(20)
    points = sample(7, seed=1)[0]
    lengths, signal, noise = np.array([0.4, 0.8, 1.5]), 1.3, 0.01
    draws = np.log(np.concatenate([lengths, [signal, noise]]))[None]
    posterior = Posterior(draws, points)
    posterior.add(inputs)
    mean, deviation = posterior.moments(targets)
    a, b = inputs.astype(np.float64), points.astype(np.float64)
    inverse = np.linalg.inv(signal * matern(a, a, lengths) + noise * np.eye(20))
    across = signal * matern(b, a, lengths)
    assert mean[0] == pytest.approx(across @ inverse @ targets, abs=2e-3)
    assert deviation[0] == pytest.approx(np.sqrt(signal - np.einsum("ij,jk,ik->i", across, inverse, across)), abs=2e-3)


def test_inputs_added_one_by_one_are_inputs_added_together() -> None:
    inputs, targets = sample(90)
    points = sample(30, seed=1)[0]
    draws = Prior(noise=0.01).moments(3)[0] + 0.3 * np.random.default_rng(0).standard_normal((3, 5))
    together, apart = Posterior(draws, points), Posterior(draws, points)
    together.add(inputs)
    for start in range(0, 90, 7):
        apart.add(inputs[start : start + 7])
    assert len(together) == len(apart) == 90
    for one, other in zip(together.moments(targets), apart.moments(targets), strict=True):
        assert one == pytest.approx(other, abs=5e-3)


def test_the_same_input_twice_is_no_trouble() -> None:
    inputs = np.repeat(sample(5)[0], 4, axis=0)
    posterior = Posterior(Prior(noise=1e-8).moments(3)[0][None], inputs)
    posterior.add(inputs)
    mean, deviation = posterior.moments(np.repeat(np.arange(5.0), 4))
    assert np.isfinite(mean).all()
    assert np.isfinite(deviation).all()


def test_the_posterior_finds_which_columns_matter() -> None:
    inputs, targets = sample(40)
    hyper = Hyperparameters(3, np.random.default_rng(0), 8, Prior())
    for n in (8, 16, 24, 32, 40):
        hyper.update(inputs[:n].astype(np.float64), targets[:n], steps=30)
    length = np.exp(np.median(hyper.draws, axis=0))
    assert length[0] < length[1]
    assert length[0] < length[2] / 2


def test_forecasts_are_right_and_know_how_right() -> None:
    inputs, targets = sample(60)
    hyper = Hyperparameters(3, np.random.default_rng(0), 8, Prior())
    for n in (8, 12, 18, 25):
        hyper.update(inputs[:n].astype(np.float64), targets[:n])
    posterior = Posterior(hyper.draws, inputs[25:])
    posterior.add(inputs[:25])
    mean, deviation = (b.mean(axis=0) for b in posterior.moments(targets[:25]))
    error = np.abs(mean - targets[25:])
    assert error.mean() < 0.2  # the deviation of the targets is 1
    assert (error < 2 * deviation).mean() > 0.6


def test_draws_vary_where_nothing_is_known_and_agree_where_it_is() -> None:
    inputs, targets = sample(12)
    far = np.full((1, 3), 4.0, dtype=np.float32)
    posterior = Posterior(np.log([[0.5, 0.5, 0.5, 1.0, 1e-4]]), np.concatenate([inputs, far]))
    posterior.add(inputs)
    rng = np.random.default_rng(0)
    drawn = np.stack([posterior.draw(targets, rng) for _ in range(200)])
    assert drawn[:, :12].std(axis=0).max() < 0.1
    assert drawn[:, 12].std() == pytest.approx(1.0, abs=0.2)
    assert drawn.mean(axis=0)[:12] == pytest.approx(targets, abs=0.05)
