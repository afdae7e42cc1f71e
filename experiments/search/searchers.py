"""The searches that are compared. Each returns its curve and the kernel that it would ship at each checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments import metaschedule
from experiments.one_task import PACE, opened, searching
from experiments.search.curve import SECONDS, TRIALS, Curve, seconds_name, trials_name
from experiments.search.tasks import workload
from kernels.metaschedule import meta_schedule
from kernels.space import Candidate
from tuner.devices.target import ResolvedTarget
from tuner.protocols import Task, TuningDevice
from tuner.tuning.budget import Budget
from tuner.tuning.session import TaskSession
from tuner.tuning.tune import tune_session

RANKING_S = 2.0
"""Kept back from a limited search for ranking the finalists."""

_BESIDE_PHASE_S = 0.8
"""The part of it that `tuner.tuning.phase` does not keep back by itself."""

_COMPILE_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Limits:
    """When a search ends, and `folder`, where it works and leaves its kernels."""

    trials: int
    seconds: float
    folder: Path


@dataclass(frozen=True)
class Kernel:
    """A shared library and its entry; `what` names the candidate or the trial."""

    path: str
    entry: str
    what: str


@dataclass(frozen=True)
class Searched:
    """What one search came to. `finals` are by checkpoint; `failed` counts failures by kind; `space` is the number of
    its points and that number's relative error."""

    curve: list[tuple[int, float, float]]
    trials: int
    seconds: float
    finals: dict[str, Kernel]
    failed: dict[str, int] = dataclasses.field(default_factory=dict)
    space: tuple[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


# --- this program's strategies ------------------------------------------------------------------------


def by_strategy(
    strategy: str, task: str, target: ResolvedTarget, limits: Limits, mode: Literal["hot", "cold"] = "hot"
) -> Searched:
    """The search of `tuner run` on one task, checks and records included."""
    with opened(target, limits.folder, mode) as device:
        return search(strategy, Task(workload(task), target.text), device, limits)


def search(strategy: str, task: Task, device: TuningDevice, limits: Limits) -> Searched:
    """Search a task. At a checkpoint of trials, and at the end, the search ships what `tuner run` would: the fastest of
    the finalists when they have been ranked, which costs seconds too."""
    device.lower_bound_s(task)  # measures the machine's ceilings where they are not known: no part of the search
    with searching(device, strategy, limits.folder) as searcher:
        session = searcher.start(task)  # generates the space; TVM is imported by then, as in MetaSchedule's process
        curve: Curve[Candidate] = Curve()
        seconds = limits.seconds - _BESIDE_PHASE_S
        budget = Budget.starting_now(seconds, limits.trials, searcher.ledger)
        tune_session(session, searcher, budget, PACE, functools.partial(_watch, curve))
        out_of_time = curve.elapsed_s >= limits.seconds - RANKING_S
        session.rank(_never)
        curve.close()
        curve.shipped |= _shipped_late(curve, session.best, limits, out_of_time)
        count = session.space.count()
        failed = dict(searcher.ledger.failed)
        finals = _built(session, curve.shipped)
    return Searched(
        curve.points, curve.trials, curve.elapsed_s, finals, failed, (str(count.points), count.relative_error)
    )


def _watch(curve: Curve[Candidate], session: TaskSession) -> None:
    """Add the trials of a batch; at a checkpoint of trials, rank the finalists."""
    for candidate, measurement in list(session.screened.items())[curve.trials :]:
        curve.add(candidate, measurement.median_s if measurement.ok else None)
    if curve.trials in TRIALS:
        session.rank(_never)
        curve.shipped[trials_name(curve.trials)] = session.best


def _shipped_late(
    curve: Curve[Candidate], best: Candidate | None, limits: Limits, out_of_time: bool
) -> dict[str, Candidate | None]:
    """What is shipped at the end, and at the checkpoints that the search did not come to because it had ended."""
    shipped = {"end": best}
    if curve.trials == limits.trials:
        return shipped
    for limit in SECONDS:
        if limit == limits.seconds or (limit < limits.seconds and seconds_name(limit) not in curve.shipped):
            shipped[seconds_name(limit)] = best
    if not out_of_time:  # nothing is left to be tried: no later trial would change it
        missing = (trials_name(limit) for limit in TRIALS if curve.trials < limit <= limits.trials)
        shipped |= dict.fromkeys(missing, best)
    return shipped


def _built(session: TaskSession, shipped: Mapping[str, Candidate | None]) -> dict[str, Kernel]:
    kernels = {}
    for name, candidate in shipped.items():
        artifact = None if candidate is None else session.artifact_of(candidate)
        if artifact is not None and candidate is not None:
            kernels[name] = Kernel(str(artifact.path), artifact.entry, candidate.to_text())
    return kernels


def _never() -> bool:
    return False


# --- MetaSchedule's own tuner -------------------------------------------------------------------------


class _OutOfTime(Exception):
    pass


def by_metaschedule(task: str, target: ResolvedTarget, limits: Limits) -> Searched:
    """TVM's own tuner. A limited search ends with the round in which its time ends."""
    builder = metaschedule.builder()
    curve: Curve[int] = Curve()
    modules: dict[int, str] = {}
    callback = _callback(curve, modules, limits.seconds)
    work = Path(tempfile.mkdtemp(dir=limits.folder))
    try:
        metaschedule.tune(workload(task), target, limits.trials, work, builder, [callback])
    except (_OutOfTime, RuntimeError):
        if curve.elapsed_s < limits.seconds:
            raise
    curve.close()
    return Searched(
        curve.points, curve.trials, curve.elapsed_s, _compiled(curve.shipped, modules, target, limits.folder)
    )


def _callback(curve: Curve[int], modules: dict[int, str], seconds: float) -> Any:
    """Called by TVM after each round: adds its trials to the curve, and the scheduled modules of the fastest so far."""
    import tvm
    from tvm.ir.utils import derived_object

    measure_callback = meta_schedule().measure_callback

    def apply(
        self: Any, scheduler: Any, task_id: int, candidates: Any, builder_results: Any, runner_results: Any
    ) -> None:
        for candidate, result in zip(candidates, runner_results, strict=True):
            trial, trial_s = curve.trials, metaschedule.median_s(result.run_secs)
            if trial_s < curve.best_s:
                modules[trial] = tvm.ir.save_json(candidate.sch.mod)
            curve.add(trial, None if math.isnan(trial_s) else trial_s)
        if curve.elapsed_s >= seconds:
            raise _OutOfTime

    return derived_object(type("Callback", (measure_callback.PyMeasureCallback,), {"apply": apply}))()


def _compiled(
    shipped: Mapping[str, int | None], modules: Mapping[int, str], target: ResolvedTarget, folder: Path
) -> dict[str, Kernel]:
    from tuner.process.worker import Child

    kernels = {}
    settings = {"target": target.text, "folder": str(folder)}
    with Child("experiments.search.workers:ModuleCompiler", settings) as compiler:
        for name, trial in shipped.items():
            if trial is not None:
                path = compiler.call("compile", _COMPILE_TIMEOUT_S, module=modules[trial], name=f"trial-{trial}")
                kernels[name] = Kernel(path, "main", f"trial {trial}")
    return kernels


# --- by name ------------------------------------------------------------------------------------------

SEARCHERS: dict[str, Callable[[str, ResolvedTarget, Limits], Searched]] = {
    "guided": functools.partial(by_strategy, "guided"),
    "guided, cold": functools.partial(by_strategy, "guided", mode="cold"),
    "random": functools.partial(by_strategy, "random"),
    "tpe": functools.partial(by_strategy, "tpe"),
    "metaschedule": by_metaschedule,
    "metaschedule, as a strategy": functools.partial(by_strategy, "metaschedule"),
}

FORMER_NAMES = {"metaschedule, our builder": "metaschedule, as a strategy"}
"""Earlier files and commands have these."""
