"""What to try next, by expected improvement over an ensemble of Gaussian processes of one task's encodings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from costmodel.dataset import CandidateOutcome
from costmodel.gp import Hyperparameters, Posterior, Prior

PriorMean = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""From encodings [n, columns] to their expected log seconds [n], in deviations from the mean; see `Surrogate`."""


@dataclass(frozen=True)
class Settings:
    """The surrogate's own hyper-parameters, tuned on recorded spaces (experiments/hyper).

    `first` trials are random where every point can be predicted; a prior mean makes points that it expects to be faster
    likelier, by e^`inverse_temperature` for each deviation.
    `members` processes are refitted when there are `refit` times as many outcomes as at the last time,
    by `steps` steps. Times over e^`cap` times the best count as that. A failure counts as `failed`
    deviations above the mean of the times. Of more than `most_rows` outcomes the newest and the best
    are learned from.
    """

    first: int = 3
    inverse_temperature: float = 4.0
    members: int = 8
    refit: float = 1.15
    steps: int = 12
    cap: float = 3.0
    failed: float = 1.0
    most_rows: int = 400
    prior: Prior = field(default_factory=Prior)


DEFAULT = Settings()


class Surrogate:
    """Learns from encodings and outcomes of one task; picks among given points.

    `look_at` fixes the points and `pick` chooses among them, as often as wanted: learning outcomes that are added in
    between costs little. When `due`, `look_at` should be called again.
    """

    def __init__(
        self,
        reference: NDArray[np.float32],
        rng: np.random.Generator,
        settings: Settings = DEFAULT,
        prior_mean: PriorMean | None = None,
    ) -> None:
        """`reference` [n, columns] are encodings of the space: their range sets the scale of each column.

        `prior_mean` is the mean before anything is measured; the processes learn the difference.
        """
        self._settings = settings
        self._prior_mean = prior_mean
        columns = self._with_prior_mean(reference)
        low, high = columns.min(axis=0), columns.max(axis=0)
        self._columns = np.flatnonzero(high > low)
        self._low, self._range = low[self._columns], (high - low)[self._columns]
        self._hyper = Hyperparameters(len(self._columns), rng, settings.members, settings.prior)
        self._encodings: list[NDArray[np.float32]] = []
        self._expected: list[float] = []
        self._logs: list[float] = []
        self._learned: list[int] = []
        self._posterior: Posterior | None = None
        self._scaled_points = np.zeros((0, 0), dtype=np.float32)
        self._prior_at_points = np.zeros(0)
        self._next_fit = 0

    def __len__(self) -> int:
        return len(self._encodings)

    @property
    def useful(self) -> bool:
        """Whether it can predict at all: there are two times that differ, or a prior mean."""
        return self._prior_mean is not None or len(set(self._logs) - {math.inf}) > 1

    @property
    def due(self) -> bool:
        """Whether the hyper-parameters should be fitted again, by `look_at`."""
        return self._posterior is None or len(self._encodings) >= self._next_fit

    def add(self, encoding: NDArray[np.float32], outcome: CandidateOutcome) -> None:
        """One outcome, of a candidate's encoding [columns]."""
        seconds = outcome.seconds or outcome.slower_than
        self._encodings.append(self._scaled(encoding)[0])
        self._expected.append(float(self._prior(encoding[None])[0]))
        self._logs.append(math.log(seconds) if seconds else math.inf)

    def look_at(self, points: NDArray[np.float32]) -> None:
        """Predict these encodings [m, columns] from now on."""
        self._learned = self._worth_learning()
        if len(self._encodings) >= self._next_fit and self._learned:
            learned = np.stack([self._encodings[i] for i in self._learned]).astype(np.float64)
            self._hyper.update(learned, self._residuals()[0], self._settings.steps)
        self._next_fit = max(len(self._encodings) + 1, math.ceil(len(self._encodings) * self._settings.refit))
        self._scaled_points = self._scaled(points)
        self._prior_at_points = self._prior(points)
        self._posterior = Posterior(self._hyper.draws, self._scaled_points)

    def pick(self, count: int, open_: NDArray[np.bool_]) -> list[int]:
        """Up to `count` indices of points that are open, the most promising first and not too much alike.

        Raises RuntimeError before `look_at`.
        """
        gain, _ = self.predict()
        gain[~open_] = -1.0
        picked: list[int] = []
        while len(picked) < count:
            i = int(np.argmax(gain))
            if gain[i] < 0:
                break
            picked.append(i)
            gain[i] = -1.0
            if len(picked) < count:
                gain *= np.where(gain > 0, 1 - self._hyper.correlation(self._scaled_points[i], self._scaled_points), 1)
        return picked

    def predict(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """At each point the expected improvement and the expected log seconds [m], in deviations; means of the members.

        Raises RuntimeError before `look_at`.
        """
        if self._posterior is None:
            raise RuntimeError("look_at was not called")
        self._learned += range(self._learned[-1] + 1 if self._learned else 0, len(self._encodings))
        fresh = [self._encodings[i] for i in self._learned[len(self._posterior) :]]
        if fresh:
            self._posterior.add(np.stack(fresh))
        residuals, best = self._residuals()
        rest, deviation = self._posterior.moments(residuals)
        mean = rest + self._prior_at_points
        return expected_improvement(best, mean, deviation).mean(axis=0), mean.mean(axis=0)

    def _scaled(self, encodings: NDArray[np.float32]) -> NDArray[np.float32]:
        columns = self._with_prior_mean(np.atleast_2d(encodings))[:, self._columns]
        scaled: NDArray[np.float32] = ((columns - self._low) / self._range).astype(np.float32)
        return scaled

    def _with_prior_mean(self, encodings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The prior mean is a column too: its errors are alike at points of which it expects the same."""
        if self._prior_mean is None:
            return encodings
        return np.column_stack([encodings, self._prior_mean(encodings)]).astype(np.float32)

    def _prior(self, encodings: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.zeros(len(encodings)) if self._prior_mean is None else self._prior_mean(encodings)

    def _worth_learning(self) -> list[int]:
        most = self._settings.most_rows
        if len(self._encodings) <= most:
            return list(range(len(self._encodings)))
        best = np.argsort(self._logs, kind="stable")[: most // 2]
        return sorted({*best.tolist(), *range(len(self._encodings) - most // 2, len(self._encodings))})

    def _residuals(self) -> tuple[NDArray[np.float64], float]:
        """Standardized log seconds of the learned outcomes less their prior mean; and the best, nothing subtracted."""
        expected = np.array([self._expected[i] for i in self._learned])
        logs = np.array([self._logs[i] for i in self._learned])
        ran = np.isfinite(logs)
        if not ran.any():
            return self._settings.failed - np.minimum(expected, 0.0), 0.0
        capped = np.minimum(logs, logs[ran].min() + self._settings.cap)
        mean, deviation = capped[ran].mean(), max(float(capped[ran].std()), 1e-6)
        targets = np.where(ran, (capped - mean) / deviation, self._settings.failed)
        return targets - expected, float(targets[ran].min())


def expected_improvement(
    best: float, mean: NDArray[np.floating], deviation: NDArray[np.floating]
) -> NDArray[np.float64]:
    """How far below `best` a normal variable is expected to come (Jones, Schonlau and Welch, 1998)."""
    z = (best - mean.astype(np.float64)) / deviation
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    gain: NDArray[np.float64] = deviation * (density + z * ndtr(z))
    return gain
