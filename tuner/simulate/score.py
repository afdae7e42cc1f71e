"""How soon a search found what is fast, on a recorded space.

The score counts evaluations, as Willemsen et al., "A methodology for comparing optimization algorithms for
auto-tuning" (2024) do, in its area-ratio form over a logarithmic axis: 0 is uniform random search without replacement,
1 the optimum from evaluation FIRST on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.simulate.recording import SpaceRecording

FIRST = 10
"""The evaluation from which on a score counts: before it chance decides."""


@dataclass(frozen=True)
class Played:
    """One run of a strategy on a recording. `seconds` are in the order of the evaluations, NaN where one failed.

    `own_s` is what the strategy itself took for all of them.
    """

    seconds: NDArray[np.float64]
    own_s: float

    def best_so_far(self, budget: int) -> NDArray[np.float64]:
        """The best seconds after 1 to `budget` evaluations; infinite before the first valid one.

        A run that ended early keeps its best.
        """
        padded = np.full(budget, np.inf)
        known = self.seconds[:budget]
        padded[: len(known)] = np.where(np.isnan(known), np.inf, known)
        best: NDArray[np.float64] = np.minimum.accumulate(padded)
        return best


def curve(recording: SpaceRecording, runs: Sequence[Played], budget: int) -> NDArray[np.float64]:
    """Optimum over best so far after 1 to `budget` evaluations, the mean over the runs: 1 is the optimum."""
    ratios = [recording.best_s / run.best_so_far(budget) for run in runs]
    mean: NDArray[np.float64] = np.mean(ratios, axis=0)
    return mean


def random_curve(recording: SpaceRecording, budget: int) -> NDArray[np.float64]:
    """The exact expectation of `curve` for random search without replacement.

    The best of n draws has rank r with probability C(N - 1 - r, n - 1) / C(N, n).
    """
    ratios = np.sort(np.where(np.isnan(recording.seconds), 0.0, recording.best_s / recording.seconds))[::-1]
    count = len(ratios)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    worse = count - 1 - np.arange(count)
    expected = np.empty(budget)
    for n in range(1, budget + 1):
        if n >= count:
            expected[n - 1] = ratios[0]
            continue
        enough = worse >= n - 1
        w = worse[enough]
        log_p = log_factorial[w] - log_factorial[n - 1] - log_factorial[w - n + 1]
        log_p -= log_factorial[count] - log_factorial[n] - log_factorial[count - n]
        expected[n - 1] = np.exp(log_p) @ ratios[enough]
    return expected


def score(recording: SpaceRecording, runs: Sequence[Played], budget: int) -> float:
    """The share of the area between random search and the optimum that the runs recover; may be negative.

    The axis of evaluations is logarithmic, from FIRST to `budget`.
    """
    n = np.arange(1, budget + 1)
    weight = np.log((n + 1) / n) * (n >= min(FIRST, budget))
    random = random_curve(recording, budget)
    possible = float(weight @ (1 - random))
    return float(weight @ (curve(recording, runs, budget) - random)) / possible if possible > 0 else 0.0


def evaluations_to(recording: SpaceRecording, run: Played, within: float, budget: int) -> int | None:
    """The first evaluation whose best is at most `within` (0.02 for 2 %) above the optimum; None when none is."""
    good = np.flatnonzero(run.best_so_far(budget) <= recording.best_s * (1 + within))
    return int(good[0]) + 1 if len(good) else None


@dataclass(frozen=True)
class Result:
    """The runs of one strategy on one recording, one for each seed."""

    recording: SpaceRecording
    strategy: str
    budget: int
    runs: tuple[Played, ...]

    @property
    def score(self) -> float:
        """The score of all runs together."""
        return score(self.recording, self.runs, self.budget)

    @property
    def error(self) -> float:
        """The standard error of the score over the seeds; NaN for a single one."""
        scores = [score(self.recording, [run], self.budget) for run in self.runs]
        return float(np.std(scores, ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else math.nan

    def slowdown(self, evaluations: int) -> float:
        """The median over the seeds of the best of so many evaluations, over the optimum."""
        best = [run.best_so_far(self.budget)[evaluations - 1] for run in self.runs]
        return float(np.median(best)) / self.recording.best_s

    @property
    def own_s(self) -> float:
        """Seconds of the strategy's own work for one evaluation."""
        return sum(run.own_s for run in self.runs) / max(sum(len(run.seconds) for run in self.runs), 1)
