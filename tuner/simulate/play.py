"""Plays a strategy against a recorded space, and scores how soon it found what is fast.

The score is that of count-based benchmarks of tuners (Willemsen et al., "A methodology for comparing optimization
algorithms for auto-tuning", 2024, in its area-ratio form over a logarithmic axis): 0 is uniform random search without
replacement, 1 the optimum from evaluation FIRST on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.errors import UserError
from tuner.protocols import Strategy
from tuner.records import Measurement, Status
from tuner.simulate.recording import Recording
from tuner.simulate.space import RecordedSpace

if TYPE_CHECKING:
    from kernels.space import Candidate
    from tuner.search.surrogate import PriorMean, Settings

FIRST = 10
"""The evaluation from which on a score counts: before it there is little but luck."""


@dataclass(frozen=True)
class Played:
    """One strategy on one recording, once. `seconds` are in the order of the evaluations; NaN failed.

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


def measurement(recording: Recording, row: int) -> Measurement:
    """What was recorded of a configuration; a time is a single sample, as it stands in the file."""
    seconds = float(recording.seconds[row])
    if math.isnan(seconds):
        return Measurement(Status.RUN_FAILED, reason="failed when it was recorded")
    return Measurement(Status.OK, samples_s=(seconds,))


def play(
    recording: Recording, strategy: Strategy, budget: int, batch: int = 1, stop: Callable[[], bool] = lambda: False
) -> Played:
    """Ask and tell until `budget` configurations are evaluated. One that fails costs as much as any other."""
    seconds: list[float] = []
    own_s = 0.0
    while len(seconds) < budget and not stop():
        began = time.perf_counter()
        proposals = strategy.ask(min(batch, budget - len(seconds)))
        own_s += time.perf_counter() - began
        if not proposals:
            break
        for proposal in proposals:
            row = recording.row_of[tuple(map(int, proposal.candidate.decisions))]  # type: ignore[arg-type]
            seconds.append(float(recording.seconds[row]))
            began = time.perf_counter()
            strategy.tell(proposal.candidate, measurement(recording, row))
            own_s += time.perf_counter() - began
    return Played(np.array(seconds), own_s)


def curve(recording: Recording, runs: Sequence[Played], budget: int) -> NDArray[np.float64]:
    """Optimum over best so far after 1 to `budget` evaluations, the mean over the runs: 1 is the optimum."""
    ratios = [recording.best_s / run.best_so_far(budget) for run in runs]
    mean: NDArray[np.float64] = np.mean(ratios, axis=0)
    return mean


def random_curve(recording: Recording, budget: int) -> NDArray[np.float64]:
    """What `curve` is for random search without replacement: its exact expectation.

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


def score(recording: Recording, runs: Sequence[Played], budget: int) -> float:
    """The share of the area between random search and the optimum that the runs recover; may be negative.

    The axis of evaluations is logarithmic, from FIRST to `budget`.
    """
    n = np.arange(1, budget + 1)
    weight = np.log((n + 1) / n) * (n >= min(FIRST, budget))
    random = random_curve(recording, budget)
    possible = float(weight @ (1 - random))
    return float(weight @ (curve(recording, runs, budget) - random)) / possible if possible > 0 else 0.0


def evaluations_to(recording: Recording, run: Played, within: float, budget: int) -> int | None:
    """The first evaluation whose best is at most `within` (0.02 for 2 %) above the optimum; None when none is."""
    good = np.flatnonzero(run.best_so_far(budget) <= recording.best_s * (1 + within))
    return int(good[0]) + 1 if len(good) else None


@dataclass(frozen=True)
class Result:
    """One strategy on one recording, once for each seed."""

    recording: Recording
    strategy: str
    budget: int
    runs: tuple[Played, ...]

    @property
    def score(self) -> float:
        return score(self.recording, self.runs, self.budget)

    @property
    def error(self) -> float:
        """The standard error of the score over the seeds; NaN for a single one."""
        each = [score(self.recording, [run], self.budget) for run in self.runs]
        return float(np.std(each, ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan

    def slowdown(self, evaluations: int) -> float:
        """The median over the seeds of best so far over optimum."""
        best = [run.best_so_far(self.budget)[evaluations - 1] for run in self.runs]
        return float(np.median(best)) / self.recording.best_s

    @property
    def own_s(self) -> float:
        """Seconds of the strategy's own work for one evaluation."""
        return sum(run.own_s for run in self.runs) / max(sum(len(run.seconds) for run in self.runs), 1)


def compare(
    recordings: Sequence[Recording],
    strategies: Sequence[str],
    budget: int,
    seeds: int,
    earlier: Sequence[Recording] = (),
    say: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Play every strategy against every recording.

    Of `earlier` those of other devices with the same parameters are used. Raises UserError when it has nothing
    for one of the recordings.
    """
    results = []
    for recording in recordings:
        space = RecordedSpace.of(recording.values, recording.choices)
        known = [r for r in earlier if r.parameters == recording.parameters and r.device != recording.device]
        if earlier and not known:
            raise UserError(f"--warm: no recording of another device with the parameters of {recording.name}")
        for name in strategies:
            runs = [
                play(recording, strategy_for(name, space, seed, known), min(budget, len(recording)))
                for seed in range(seeds)
            ]
            results.append(Result(recording, name, budget, tuple(runs)))
            say(f"{recording.name}, {name}: score {results[-1].score:.3f}")
    return results


def table(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One line a result, then the mean score of each strategy; the first line names the columns."""
    budget = results[0].budget
    at = [n for n in (25, 50, 100, 200, 400, 800, 1600) if n < budget] + [budget]
    lines = [("space", "strategy", "score", "s.e.", *(f"best/opt at {n}" for n in at), "ms each")]
    for r in results:
        ratios = tuple(f"{r.slowdown(n):.3f}" for n in at)
        lines.append(
            (r.recording.name, r.strategy, f"{r.score:.3f}", f"{r.error:.3f}", *ratios, f"{1e3 * r.own_s:.1f}")
        )
    for strategy in dict.fromkeys(r.strategy for r in results):
        mine = [r.score for r in results if r.strategy == strategy]
        lines.append(("mean of all spaces", strategy, f"{np.mean(mine):.3f}"))
    return lines


def curves(results: Sequence[Result]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """For each space and strategy the mean of optimum over best so far; with the exact expectation of random search."""
    drawn: dict[str, dict[str, NDArray[np.float64]]] = {}
    for r in results:
        lines = drawn.setdefault(r.recording.name, {})
        lines[r.strategy] = curve(r.recording, r.runs, r.budget)
    for name, lines in drawn.items():
        recording = next(r.recording for r in results if r.recording.name == name)
        lines["random search (exact)"] = random_curve(recording, results[0].budget)
    return drawn


class _Encodings:
    """The featurizer of a space without programs: a row is the encoding."""

    def __init__(self, space: RecordedSpace) -> None:
        self._space = space

    def rows(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return [self._space.encode(c) for c in candidates]


def strategy_for(
    name: str,
    space: RecordedSpace,
    seed: int,
    earlier: Sequence[Recording] = (),
    settings: Settings | None = None,
) -> Strategy:
    """The strategy that `tuner run` uses, for a recorded space. Raises KeyError for an unknown name.

    `earlier` are recordings of the same parameters on other devices, which `guided` starts from; its `settings`
    are those of the main job unless others are given.
    """
    from costmodel.xgb import XgbRanker
    from tuner import search
    from tuner.search.ranker import FeatureCache, Ranker

    features = FeatureCache(_Encodings(space))
    ranker = Ranker(XgbRanker("encoding", seed=seed)).task("recorded")
    problem = search.Problem(space, features, ranker, seed)
    if name != "guided":
        return search.create(name, problem)
    if not earlier:
        return search.create_guided(problem, settings, space.prior_mean)
    return search.create_guided(problem, settings or search.warm(), _learned(space, earlier, seed))


def _learned(space: RecordedSpace, earlier: Sequence[Recording], seed: int) -> PriorMean:
    """A model of what was recorded elsewhere, as a belief: in deviations from the mean over this space.

    Raises UserError for a recording of other parameters.
    """
    from costmodel.dataset import FAILURE, CandidateOutcome
    from costmodel.xgb import XgbRanker

    rows, outcomes, groups = [], [], []
    for group, recording in enumerate(earlier):
        if recording.values != space.values:
            raise UserError(f"{recording.name}: other parameters than the space to be searched", "leave it out")
        rows.append(RecordedSpace.of(recording.values, recording.choices).rows)
        outcomes += [FAILURE if math.isnan(s) else CandidateOutcome(seconds=float(s)) for s in recording.seconds]
        groups.append(np.full(len(recording), group))
    model = XgbRanker("encoding", seed=seed, rounds=300, depth=8)
    model.fit(np.concatenate(rows), outcomes, np.concatenate(groups))
    scores = model.predict(space.rows)
    middle, deviation = float(scores.mean()), max(float(scores.std()), 1e-6)
    return lambda some: (middle - model.predict(some).astype(np.float64)) / deviation
