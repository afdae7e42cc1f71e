"""Gaussian processes over the settings of one task: of use from the first handful of outcomes on.

Their hyper-parameters are not one best guess but a handful of draws from the posterior, since a dozen outcomes
leave them wide open and a best guess of them is overconfident (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, chapters 2 and 5; Snoek et al., "Practical Bayesian Optimization", 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_JITTER = 1e-6
"""Share of the variance that is added to the diagonal, to keep matrices positive definite."""


@dataclass(frozen=True)
class Prior:
    """Log-normal beliefs about the hyper-parameters: the median of each, and the deviation of its logarithm.

    Lengths are in units of a column's range, signal and noise are variances in units of the targets'.
    """

    length: float = 0.7
    length_sd: float = 1.0
    signal: float = 1.0
    signal_sd: float = 1.0
    noise: float = 1e-3
    noise_sd: float = 1.0

    def moments(self, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of the logarithms: lengths [columns], then signal, then noise."""
        mean = np.concatenate([np.full(columns, np.log(self.length)), np.log([self.signal, self.noise])])
        return mean, np.concatenate([np.full(columns, self.length_sd), [self.signal_sd, self.noise_sd]])


class Hyperparameters:
    """`members` draws from the posterior of the hyper-parameters, moved along as data come in.

    A Markov chain for each member (Metropolis steps, all members at once); while there are few data,
    half of the members are drawn afresh from the prior, weighted by their likelihood.
    """

    def __init__(self, columns: int, rng: np.random.Generator, members: int, prior: Prior) -> None:
        self._rng = rng
        self._mean, self._sd = prior.moments(columns)
        self._step = 0.3
        self.draws = self._mean + self._sd * rng.standard_normal((members, columns + 2))

    def update(self, rows: NDArray[np.float64], targets: NDArray[np.float64], steps: int = 12) -> None:
        """Move the draws towards the posterior given rows [n, columns] and targets [n] of about unit variance."""
        squares = np.ascontiguousarray(((rows[:, None, :] - rows[None]) ** 2).transpose(2, 0, 1))
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
            value = self._log_posterior(proposal, squares, targets)
            better = np.log(self._rng.random(members)) < value - current
            self.draws[better], current[better] = proposal[better], value[better]
            accepted += float(better.mean()) / steps
        # between 15 and 30 % of the steps accepted: the usual compromise of Metropolis in several dimensions
        self._step *= 1.3 if accepted > 0.3 else 0.8 if accepted < 0.15 else 1.0

    def correlation(self, row: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
        """How alike the outcomes at a row [columns] and at points [m, columns] are: [m], 1 for the same."""
        lengths = np.exp(self.draws[:, : points.shape[1]].mean(axis=0)).astype(np.float32)
        alike: NDArray[np.float32] = _correlation((row / lengths)[None], points / lengths)[0]
        return alike

    def _log_posterior(
        self, draws: NDArray[np.float64], squares: NDArray[np.float64], targets: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        prior: NDArray[np.float64] = 0.5 * (((draws - self._mean) / self._sd) ** 2).sum(axis=1)
        return _log_likelihood(draws, squares, targets) - prior


_FEATURES = 300
"""Waves of which a drawn function is made: its covariance is right to about one part in twenty."""

_FEW = 30
_FRESH = 64
_MOVED = 0.4
"""The share of the hyper-parameters that one step changes."""


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
    white = np.linalg.solve(lower, np.broadcast_to(targets[:, None], (len(draws), n, 1)))[..., 0]
    result: NDArray[np.float64] = -0.5 * (white**2).sum(axis=1) - np.log(lower[:, diagonal, diagonal]).sum(axis=1)
    return result


def _matern(squared: NDArray[Any]) -> NDArray[Any]:
    """The Matern 5/2 correlation at a squared distance, in the precision of that."""
    r: NDArray[Any] = np.sqrt(5 * np.maximum(squared, 0))
    correlation: NDArray[Any] = (1 + r * (1 + r / 3)) * np.exp(-r)
    return correlation


class Posterior:
    """What processes with given hyper-parameters believe at `points` [m, columns], as outcomes come in.

    Rows are added at the end only; each costs members x n x m operations, not a new decomposition.
    """

    def __init__(self, draws: NDArray[np.float64], points: NDArray[np.float32]) -> None:
        columns = points.shape[1]
        self._members = [
            _Member(np.exp(draw[:columns]), float(np.exp(draw[columns])), float(np.exp(draw[columns + 1])), points)
            for draw in draws
        ]
        self._rows = 0

    def __len__(self) -> int:
        """How many rows were added."""
        return self._rows

    def add(self, rows: NDArray[np.float32]) -> None:
        """Observe at rows [k, columns]; what was observed is given to `beliefs`."""
        for member in self._members:
            member.add(rows)
        self._rows += len(rows)

    def beliefs(self, targets: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation [members, m] at the points, given the targets [n] of all rows added."""
        means, deviations = zip(*(member.beliefs(targets) for member in self._members), strict=True)
        return np.stack(means), np.stack(deviations)

    def draw(self, targets: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
        """One function drawn from the posterior of one member, at the points [m]."""
        return self._members[int(rng.integers(len(self._members)))].draw(targets, rng)


class _Member:
    """One process: the inverse Cholesky factor of its rows, and that factor times the covariance with each point.

    The factor is in double precision; what there is one of for each point and row is in single. Products with an
    inverse instead of triangular solutions: for wide right sides they take a fraction of LAPACK's time.
    """

    def __init__(self, lengths: NDArray[np.float64], signal: float, noise: float, points: NDArray[np.float32]) -> None:
        self._lengths = lengths
        self._signal, self._noise = signal, noise + _JITTER * (1 + signal)
        self._points = points / lengths.astype(np.float32)
        self._rows = np.zeros((0, points.shape[1]))
        self._inverse = np.zeros((0, 0))
        self._solved = np.zeros((64, len(points)), dtype=np.float32)
        self._explained = np.zeros(len(points), dtype=np.float32)

    def add(self, rows: NDArray[np.float32]) -> None:
        n, k = len(self._rows), len(rows)
        if not k:
            return
        known = np.concatenate([self._rows, rows / self._lengths])
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
        self._rows, self._inverse = known, inverse

    def beliefs(self, targets: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        white = (self._inverse @ targets).astype(np.float32)
        left = np.maximum(np.float32(self._signal) - self._explained, np.float32(1e-9))
        return white @ self._solved[: len(white)], np.sqrt(left)

    def draw(self, targets: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
        """A draw from the prior by random Fourier features, corrected by what the outcomes say (Matheron's rule).

        Wilson et al., "Efficiently sampling functions from Gaussian process posteriors", 2020. The spectral density
        of Matern 5/2 is a t distribution of five degrees of freedom.
        """
        columns = self._points.shape[1]
        frequency = rng.standard_normal((_FEATURES, columns)) / np.sqrt(rng.chisquare(5, _FEATURES) / 5)[:, None]
        phase = rng.uniform(0, 2 * np.pi, _FEATURES)
        weight = rng.standard_normal(_FEATURES) * np.sqrt(2 * self._signal / _FEATURES)
        at_rows = np.cos(self._rows @ frequency.T + phase) @ weight
        noise = rng.standard_normal(len(targets)) * np.sqrt(self._noise)
        correction, _ = self.beliefs(targets - at_rows - noise)
        waves = np.cos(self._points @ frequency.T.astype(np.float32) + phase.astype(np.float32))
        drawn: NDArray[np.float32] = waves @ weight.astype(np.float32) + correction
        return drawn


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2 * a @ b.T
    return _matern(squared)
