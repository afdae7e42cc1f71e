"""The searches that are compared. Each answers with its curve and with the kernel it would ship at each checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TRIALS = (32, 64, 128, 256)
SECONDS = (60, 180, 600)
"""The checkpoints of the issue: what would be shipped after so many trials, and after so many seconds."""

_BATCH = 16

_RANKING_S = 2.0
"""Kept back from a limited search for ranking the finalists, as `tuner run` does."""


class Curve:
    """Best seconds after each trial, and what was best at each checkpoint."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.points: list[tuple[int, float, float]] = []
        self.at: dict[str, object] = {}
        self._best: object = None
        self.trials = 0
        self.best_s = float("inf")

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def add(self, what: object, seconds: float | None) -> None:
        """One trial: a candidate and its time (None: it failed)."""
        self._pass_time()
        self.trials += 1
        if seconds is not None and seconds < self.best_s:
            self.best_s, self._best = seconds, what
            self.points.append((self.trials, round(self.elapsed_s, 2), seconds))
        if self.trials in TRIALS:
            self.at[f"{self.trials} trials"] = self._best

    def _pass_time(self) -> None:
        for limit in SECONDS:
            if self.elapsed_s >= limit:
                self.at.setdefault(f"{limit} s", self._best)

    def close(self) -> None:
        self._pass_time()
        self.at["end"] = self._best


def ours(
    strategy: str, task: str, target: str, threads: int, trials: int, seconds: float, folder: Path, mode: str = "hot"
) -> dict:
    """The search of `tuner run` on one task, checks and records included. At a checkpoint of trials, and at the end, it
    ships what `tuner run` would: the fastest of the finalists when they have been ranked, which costs seconds too."""
    from costmodel.xgb import XgbRanker
    from experiments.search.tasks import workload
    from kernels.features import SCHEMA
    from kernels.passes import PASSES
    from tuner import search
    from tuner.devices.builder import LocalBuilder
    from tuner.devices.cpu.bench import KernelBench
    from tuner.process.pinning import thread_env
    from tuner.protocols import Task
    from tuner.search.ranker import FeatureCache, Ranker
    from tuner.store import SqlStore
    from tuner.tuning.phase import Budget
    from tuner.tuning.session import Ledger, TaskSession

    class Features:
        def vectors(self, candidates):
            return builder.features(task_object, candidates)

    task_object = Task(workload(task), target)
    builder = LocalBuilder(target, folder / "built", len(os.sched_getaffinity(0)), 30.0)
    bench = KernelBench(mode, threads, thread_env(threads), 20.0)
    names = [p for p in PASSES if p != "fast_math"]
    space = builder.space(task_object, names)  # starts the warm process, which MetaSchedule's side has had too
    with SqlStore(f"sqlite:///{folder}/records.db") as store:
        curve = Curve()
        features = FeatureCache(Features())
        ranker = Ranker(XgbRanker(SCHEMA, seed=0))
        ledger = Ledger(store, "search", "none", 0)
        made = search.create(strategy, search.Problem(space, features, ranker.task(task_object.key), 0, task_object))
        session = TaskSession(task_object, space, made, features, builder, bench, ledger, folder, {})
        for_search = seconds - _RANKING_S
        budget = Budget(time.monotonic() + for_search, for_search, trials, ledger, lambda: False)
        seen = 0
        while not budget.stop():
            step = session.step(budget.allowed(_BATCH), budget.stop, budget.ending())
            for candidate, measured in list(session.screened.items())[seen:]:
                curve.add(candidate, measured.median_s if measured.ok else None)
            seen = len(session.screened)
            if curve.trials in TRIALS:
                session.rank(lambda: False)
                curve.at[f"{curve.trials} trials"] = session.best
            if step.exhausted:
                break
        session.rank(lambda: False)
        curve.close()
        curve.at["end"] = session.best
        if budget.trials > curve.trials:  # out of time, or nothing is left to try: no later second would change it
            late = [f"{limit} s" for limit in SECONDS if limit <= seconds]
            curve.at.update({name: session.best for name in late if name == f"{seconds:g} s" or name not in curve.at})
        finals = {}
        for name, candidate in curve.at.items():
            found = session.object_of(candidate) if candidate is not None else None
            if found is not None:
                entry, made_object = found
                finals[name] = _keep(made_object.with_suffix(".so"), folder, entry, candidate.to_text())
        count = space.count()
    builder.close()
    bench.close()
    return {
        "curve": curve.points, "trials": curve.trials, "seconds": curve.elapsed_s, "finals": finals,
        "failed": dict(ledger.failed), "space": [str(count.points), count.relative_error],
    }  # fmt: skip


def _keep(path: Path, folder: Path, entry: str, text: str) -> dict:
    kept = folder / path.name
    if not kept.exists():
        shutil.copy(path, kept)
    return {"path": str(kept), "entry": entry, "what": text}


def repaired_import() -> None:
    """What each MetaSchedule build worker runs first: its slow import of tensor intrinsics, made quick."""
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from kernels.metaschedule import meta_schedule

    meta_schedule()


def metaschedule(task: str, target: str, threads: int, trials: int, seconds: float, folder: Path) -> dict:
    """TVM's own tuner with its defaults: its builder (repaired) on as many workers as cores."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    import tvm
    from tvm.ir.utils import derived_object
    from tvm.target import Target

    from experiments.search.tasks import workload
    from kernels.metaschedule import meta_schedule

    ms = meta_schedule()
    curve = Curve()
    modules: dict[int, str] = {}

    class OutOfTime(Exception):
        pass

    @derived_object
    class Watch(ms.measure_callback.PyMeasureCallback):
        def apply(self, task_scheduler, task_id, measure_candidates, builder_results, runner_results):
            for candidate, result in zip(measure_candidates, runner_results, strict=True):
                times = sorted(float(s) for s in result.run_secs or ())
                best = times[len(times) // 2] if times and times[-1] < 1e9 else None
                number = curve.trials
                if best is not None and best < curve.best_s:
                    modules[number] = tvm.ir.save_json(candidate.sch.mod)
                curve.add(number, best)
            if curve.elapsed_s >= seconds:
                raise OutOfTime

    builder = ms.builder.LocalBuilder(
        max_workers=len(os.sched_getaffinity(0)), timeout_sec=90, initializer=repaired_import
    )
    try:
        ms.tir_integration.tune_tir(
            mod=workload(task).module(), target=Target(json.loads(target)), work_dir=tempfile.mkdtemp(dir=folder),
            max_trials_global=trials, num_trials_per_iter=min(64, trials), builder=builder, seed=0,
            measure_callbacks=[Watch(), *ms.measure_callback.MeasureCallback.create("default")],
        )  # fmt: skip
    except (OutOfTime, RuntimeError):
        if curve.elapsed_s < seconds:
            raise
    curve.close()
    from tuner.process.worker import Child

    compiler = Child("experiments.search.hosts:ModuleCompiler", {"target": target, "folder": str(folder)})
    finals = {}
    for name, number in curve.at.items():
        if number is not None:
            path = compiler.call("compile", 90.0, module=modules[number], name=f"trial-{number}")
            finals[name] = {"path": path, "entry": "main", "what": f"trial {number}"}
    compiler.close()
    return {"curve": curve.points, "trials": curve.trials, "seconds": curve.elapsed_s, "finals": finals}


SIDES: dict[str, Callable[..., dict]] = {
    "guided": lambda *a: ours("guided", *a),
    "guided, cold": lambda *a: ours("guided", *a, mode="cold"),
    "random": lambda *a: ours("random", *a),
    "tpe": lambda *a: ours("tpe", *a),
    "metaschedule": metaschedule,
    "metaschedule, our builder": lambda *a: ours("metaschedule", *a),
}
