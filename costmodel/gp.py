"""Gaussian processes over the settings of one task, which predict from a handful of outcomes on.

The hyper-parameters are several draws from their posterior instead of one point estimate: a dozen outcomes leave them
uncertain, and predictions with a point estimate are overconfident (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, chapters 2 and 5; Snoek et al., "Practical Bayesian Optimization", 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_JITTER = 1e-6
"""The fraction of the variance that is added to the diagonal, to keep matrices positive definite."""

_WAVES = 300
"""Random Fourier features of a drawn function: its covariance is right to about one part in twenty."""

_FEW = 30
"""Outcomes up to which members are drawn anew from the prior, from _FRESH draws."""

_FRESH = 64
_MOVED = 0.4
"""The fraction of the hyper-parameters that one step changes."""


@dataclass(frozen=True)
class Prior:
    """A log-normal prior of the hyper-parameters: the median of each, and the standard deviation of its logarithm.

    Length scales are in units of a column's range; signal and noise variances in units of the targets' variance.
    """

    length: float = 0.7
    length_sd: float = 1.0
    signal: float = 1.0
    signal_sd: float = 1.0
    noise: float = 1e-3
    noise_sd: float = 1.0

    def moments(self, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and standard deviations of the logarithms: length scales [columns], then signal, then noise."""
        mean = np.concatenate([np.full(columns, np.log(self.length)), np.log([self.signal, self.noise])])
        return mean, np.concatenate([np.full(columns, self.length_sd), [self.signal_sd, self.noise_sd]])


class Hyperparameters:
    """`members` draws from the posterior of the hyper-parameters, updated as data are added.

    A Markov chain for each member (Metropolis steps, all members at once). While there are few data, half of the
    members are drawn anew from the prior, weighted by their likelihood (importance resampling).
    """

    def __init__(self, columns: int, rng: np.random.Generator, members: int, prior: Prior) -> None:
        self._rng = rng
        self._mean, self._sd = prior.moments(columns)
        self._step = 0.3
        self.draws = self._mean + self._sd * rng.standard_normal((members, columns + 2))

    def update(self, inputs: NDArray[np.float64], targets: NDArray[np.float64], steps: int = 12) -> None:
        """Move the draws towards the posterior given inputs [n, columns] and targets [n] of about unit variance."""
        squares = np.ascontiguousarray(((inputs[:, None, :] - inputs[None]) ** 2).transpose(2, 0, 1))
        members = len(self.draws)
        if len(targets) < _FEW:
            fresh = self._mean + self._sd * self._rng.standard_normal((_FRESH, len(self._mean)))
            weight = _log_likelihood(fresh, squares, targets)
            weight = np.exp(weight - weight.max())
            chosen = self._rng.choice(_FRESH, members // 2, p=weight / weight.sum())
            self.draws[: members // 2] = fresh[chosen]
        current = self._log_posterior(self.draws, squares, targets)
        accepted = 0.0
        for _ in range(steps):
            moved = self._rng.random(self.draws.shape) < _MOVED
            proposal = self.draws + self._step * moved * self._rng.standard_normal(self.draws.shape)
            density = self._log_posterior(proposal, squares, targets)
            accept = np.log(self._rng.random(members)) < density - current
            self.draws[accept], current[accept] = proposal[accept], density[accept]
            accepted += float(accept.mean()) / steps
        # 15 to 30 % of the steps accepted is the usual compromise of Metropolis in several dimensions
        self._step *= 1.3 if accepted > 0.3 else 0.8 if accepted < 0.15 else 1.0

    def correlation(self, point: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
        """The prior correlation [m] of the outcome at a point [columns] with those at points [m, columns]."""
        lengths = np.exp(self.draws[:, : points.shape[1]].mean(axis=0)).astype(np.float32)
        correlation: NDArray[np.float32] = _correlation((point / lengths)[None], points / lengths)[0]
        return correlation

    def _log_posterior(
        self, draws: NDArray[np.float64], squares: NDArray[np.float64], targets: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        prior: NDArray[np.float64] = 0.5 * (((draws - self._mean) / self._sd) ** 2).sum(axis=1)
        return _log_likelihood(draws, squares, targets) - prior


def _log_likelihood(
    draws: NDArray[np.float64], squares: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log marginal likelihood [draws] up to a constant; -1e9 for all when a matrix is not positive definite."""
    columns, n = len(squares), len(targets)
    covariance = _matern(np.tensordot(np.exp(-2 * draws[:, :columns]), squares, 1))
    covariance *= np.exp(draws[:, columns])[:, None, None]
    diagonal = np.arange(n)
    covariance[:, diagonal, diagonal] += (np.exp(draws[:, columns + 1]) + _JITTER)[:, None]
    try:
        lower = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return np.full(len(draws), -1e9)
    whitened = np.linalg.solve(lower, np.broadcast_to(targets[:, None], (len(draws), n, 1)))[..., 0]
    result: NDArray[np.float64] = -0.5 * (whitened**2).sum(axis=1) - np.log(lower[:, diagonal, diagonal]).sum(axis=1)
    return result


def _matern(squared: NDArray[Any]) -> NDArray[Any]:
    """The Matern 5/2 correlation at squared distances, in their precision (Rasmussen and Williams, equation 4.17)."""
    r: NDArray[Any] = np.sqrt(5 * np.maximum(squared, 0))
    correlation: NDArray[Any] = (1 + r * (1 + r / 3)) * np.exp(-r)
    return correlation


class Posterior:
    """The posterior at `points` [m, columns] of processes with given hyper-parameters, as outcomes are added.

    Each new input costs members x n x m operations instead of a new decomposition.
    """

    def __init__(self, draws: NDArray[np.float64], points: NDArray[np.float32]) -> None:
        columns = points.shape[1]
        self._members = [
            _GaussianProcess(
                np.exp(draw[:columns]), float(np.exp(draw[columns])), float(np.exp(draw[columns + 1])), points
            )
            for draw in draws
        ]
        self._inputs = 0

    def __len__(self) -> int:
        """The number of inputs added."""
        return self._inputs

    def add(self, inputs: NDArray[np.float32]) -> None:
        """Add training inputs [k, columns]. Their targets are given to `moments`, which may change them every time."""
        for member in self._members:
            member.add(inputs)
        self._inputs += len(inputs)

    def moments(self, targets: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posterior mean and standard deviation [members, m] at the points, given the targets [n] of all inputs."""
        means, deviations = zip(*(member.moments(targets) for member in self._members), strict=True)
        return np.stack(means), np.stack(deviations)

    def draw(self, targets: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
        """A function drawn from the posterior of a random member, at the points [m]."""
        return self._members[int(rng.integers(len(self._members)))].draw(targets, rng)


class _GaussianProcess:
    """One process: the inverse Cholesky factor of its inputs' covariance, and its product with that of the points.

    The factor is in double precision; arrays of points by inputs are in single. Products with an inverse replace
    triangular solutions: for wide right sides they take a fraction of LAPACK's time.
    """

    def __init__(self, lengths: NDArray[np.float64], signal: float, noise: float, points: NDArray[np.float32]) -> None:
        self._lengths = lengths
        self._signal, self._noise = signal, noise + _JITTER * (1 + signal)
        self._points = points / lengths.astype(np.float32)
        self._inputs = np.zeros((0, points.shape[1]))
        self._inverse = np.zeros((0, 0))
        self._solved = np.zeros((64, len(points)), dtype=np.float32)
        self._explained = np.zeros(len(points), dtype=np.float32)

    def add(self, inputs: NDArray[np.float32]) -> None:
        """Extend the factors by inputs [k, columns]: a block of the Cholesky decomposition."""
        n, k = len(self._inputs), len(inputs)
        if not k:
            return
        known = np.concatenate([self._inputs, inputs / self._lengths])
        across = self._signal * _correlation(known[n:], known)
        side = across[:, :n] @ self._inverse.T
        corner = np.linalg.inv(np.linalg.cholesky(across[:, n:] + self._noise * np.eye(k) - side @ side.T))
        inverse = np.zeros((n + k, n + k))
        inverse[:n, :n], inverse[n:, :n], inverse[n:, n:] = self._inverse, -corner @ (side @ self._inverse), corner
        while n + k > len(self._solved):
            self._solved = np.concatenate([self._solved, np.zeros_like(self._solved)])
        at_points = np.float32(self._signal) * _correlation(known[n:].astype(np.float32), self._points)
        new = corner.astype(np.float32) @ (at_points - side.astype(np.float32) @ self._solved[:n])
        self._solved[n : n + k] = new
        self._explained += (new * new).sum(axis=0)
        self._inputs, self._inverse = known, inverse

    def moments(self, targets: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posterior mean and standard deviation at the points (Rasmussen and Williams, algorithm 2.1)."""
        whitened = (self._inverse @ targets).astype(np.float32)
        variance = np.maximum(np.float32(self._signal) - self._explained, np.float32(1e-9))
        return whitened @ self._solved[: len(whitened)], np.sqrt(variance)

    def draw(self, targets: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
        """A draw from the prior by random Fourier features, corrected by the targets (Matheron's rule).

        Wilson et al., "Efficiently sampling functions from Gaussian process posteriors", 2020. The spectral density
        of Matern 5/2 is a t distribution of five degrees of freedom.
        """
        columns = self._points.shape[1]
        frequency = rng.standard_normal((_WAVES, columns)) / np.sqrt(rng.chisquare(5, _WAVES) / 5)[:, None]
        phase = rng.uniform(0, 2 * np.pi, _WAVES)
        weight = rng.standard_normal(_WAVES) * np.sqrt(2 * self._signal / _WAVES)
        at_inputs = np.cos(self._inputs @ frequency.T + phase) @ weight
        noise = rng.standard_normal(len(targets)) * np.sqrt(self._noise)
        correction, _ = self.moments(targets - at_inputs - noise)
        waves = np.cos(self._points @ frequency.T.astype(np.float32) + phase.astype(np.float32))
        drawn: NDArray[np.float32] = waves @ weight.astype(np.float32) + correction
        return drawn


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """The correlation [len(a), len(b)] of points in units of the length scales."""
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2 * a @ b.T
    return _matern(squared)
