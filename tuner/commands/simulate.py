"""`simulate`: search strategies on recorded spaces, without a device."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tuner import search
from tuner.config import SearchConfig
from tuner.errors import UserError
from tuner.progress import Progress
from tuner.protocols import Strategy
from tuner.search.surrogate import Settings as StrategySettings
from tuner.simulate.device import SimulatedDevice, task_of
from tuner.simulate.recording import SpaceRecording
from tuner.simulate.score import Played, Result, curve, random_curve
from tuner.simulate.space import RecordedSpace
from tuner.simulate.transfer import with_learned_prior
from tuner.store import SqlStore
from tuner.tuning.budget import Budget
from tuner.tuning.context import SearchContext
from tuner.tuning.phase import Pace
from tuner.tuning.searcher import Searcher
from tuner.tuning.tune import tune_task

_A_DAY_S = 86_400.0


def play(
    recording: SpaceRecording,
    strategy: str,
    budget: int,
    seed: int = 0,
    batch: int = 1,
    earlier: Sequence[SpaceRecording] = (),
    settings: StrategySettings | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Played:
    """Search a recorded space until `budget` configurations are evaluated. One that fails costs as much as any other.

    `earlier` are recordings of the same parameters on other devices, which `guided` starts from. Its `settings` are
    those of `tuner run` unless others are given. Raises KeyError for an unknown strategy.
    """
    space = RecordedSpace.of(recording.values, recording.choices)
    if earlier:
        space = with_learned_prior(space, earlier, seed)
        settings = settings or search.transfer_settings()
    with SqlStore("sqlite://") as store, tempfile.TemporaryDirectory(prefix="tuner-simulate-") as folder:
        searcher = _searcher(recording, space, strategy, seed, store, Path(folder), settings)
        allowed = Budget.starting_now(_A_DAY_S, budget, searcher.ledger, stop)
        allowed.refining_share = 0.0  # the score counts every evaluation, not only where the search ends
        pace = Pace(batch, first_batch=batch, early_stop=budget + 1, untuned=False)
        session = tune_task(task_of(recording), searcher, allowed, pace)
    times = [measured.median_s if measured.ok else math.nan for measured in session.screened.values()]
    return Played(np.array(times), session.strategy_s)


def strategy_for(recorded: RecordedSpace, strategy: str, seed: int) -> Strategy:
    """A strategy for a recorded space, for a program that evaluates candidates itself. Raises KeyError."""
    empty = SpaceRecording("", "", "", (), recorded.values, recorded.choices, np.zeros(len(recorded.choices)))
    with SqlStore("sqlite://") as store, tempfile.TemporaryDirectory(prefix="tuner-simulate-") as folder:
        searcher = _searcher(empty, recorded, strategy, seed, store, Path(folder), None)
        task = task_of(empty)
        return searcher.strategy(task, searcher.known(task))[0]


def _searcher(
    recording: SpaceRecording,
    space: RecordedSpace,
    strategy: str,
    seed: int,
    store: SqlStore,
    folder: Path,
    settings: StrategySettings | None,
) -> Searcher:
    config = SearchConfig(strategy=cast(Any, strategy), seed=seed)
    context = SearchContext(config, (), "simulation", "simulation", folder, Progress(io.StringIO()))
    return Searcher(SimulatedDevice.of(recording, space, folder), store, context, settings)


def compare(
    recordings: Sequence[SpaceRecording],
    strategies: Sequence[str],
    budget: int,
    seeds: int,
    earlier: Sequence[SpaceRecording] = (),
    say: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Run every strategy on every recording, with `seeds` seeds each; `say` is called with a sentence after each.

    `guided` starts from those of `earlier` that are of other devices and have the same parameters. Raises UserError
    when there is none for one of the recordings.
    """
    results = []
    for recording in recordings:
        known = [r for r in earlier if r.parameters == recording.parameters and r.device != recording.device]
        if earlier and not known:
            raise UserError(f"--warm: no recording of another device with the parameters of {recording.name}")
        for name in strategies:
            runs = [
                play(recording, name, min(budget, len(recording)), seed, earlier=known if name == "guided" else ())
                for seed in range(seeds)
            ]
            results.append(Result(recording, name, budget, tuple(runs)))
            say(f"{recording.name}, {name}: score {results[-1].score:.3f}")
    return results


def table(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One line a result, then the mean score of each strategy. The first line has the titles."""
    budget = results[0].budget
    at = [n for n in (25, 50, 100, 200, 400, 800, 1600) if n < budget] + [budget]
    lines = [("space", "strategy", "score", "s.e.", *(f"best/opt at {n}" for n in at), "ms each")]
    for r in results:
        ratios = tuple(f"{r.slowdown(n):.3f}" for n in at)
        lines.append(
            (r.recording.name, r.strategy, f"{r.score:.3f}", f"{r.error:.3f}", *ratios, f"{1e3 * r.own_s:.1f}")
        )
    for strategy in dict.fromkeys(r.strategy for r in results):
        scores = [r.score for r in results if r.strategy == strategy]
        lines.append(("mean of all spaces", strategy, f"{np.mean(scores):.3f}"))
    return lines


def curves(results: Sequence[Result]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """By space and strategy, the mean of optimum over best so far; and the exact expectation of random search."""
    by_space: dict[str, dict[str, NDArray[np.float64]]] = {}
    for r in results:
        lines = by_space.setdefault(r.recording.name, {})
        lines[r.strategy] = curve(r.recording, r.runs, r.budget)
    for name, lines in by_space.items():
        recording = next(r.recording for r in results if r.recording.name == name)
        lines["random search (exact)"] = random_curve(recording, results[0].budget)
    return by_space
