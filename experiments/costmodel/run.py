"""How well do cost models order candidates, after how many trials, and how long is training? See README.md."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from costmodel.base import ConstantModel, CostModel
from costmodel.dataset import CandidateOutcome
from costmodel.xgb import XgbRanker
from kernels.features import ENCODING, SCHEMA
from tuner.commands import model as training
from tuner.search.surrogate import Surrogate
from tuner.store import SqlStore


class Surrogates:
    """The Gaussian processes that screen proposals, as a cost model of the encodings alone."""

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._model = Surrogate(features[:, ENCODING], np.random.default_rng(0))
        for encoding, outcome in zip(features[:, ENCODING], outcomes, strict=True):
            self._model.add(encoding, outcome)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        self._model.look_at(features[:, ENCODING])
        _, mean = self._model.predict()
        return -mean.astype(np.float32)


class Nearest:
    """The score of the nearest candidate, with each column in units of its range."""

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        timed = [i for i, o in enumerate(outcomes) if o.seconds]
        self._span = np.maximum(np.ptp(features, axis=0), 1e-6)
        self._rows = features[timed] / self._span
        self._score = -np.log([outcomes[i].seconds or 1.0 for i in timed])

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        distance = ((features[:, None] / self._span - self._rows[None]) ** 2).sum(axis=2)
        return self._score[distance.argmin(axis=1)].astype(np.float32)


class OnEncodings:
    """The trees, on the encodings alone."""

    def __init__(self) -> None:
        self._model = XgbRanker("encoding")

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._model.fit(features[:, ENCODING], outcomes, groups)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._model.predict(features[:, ENCODING])


class Static(ConstantModel):
    """No learning: arithmetic over the peak of vectors and cores, or cache lines over a bandwidth, whichever is more.

    From TVM's per-store features of the store that is largest in each, log2 of counts: 16 kinds of arithmetic, then
    vectorized, unrolled and parallel loops (11 columns each), 8 of GPUs, then five buffers of 18 columns.
    """

    _CORES, _LANES, _LINES_PER_S, _OPS_PER_S = 2.0, 16.0, 2e8, 3e9
    _CALL = 20.0  # operations that an elementary function takes

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        counts = 2.0 ** features.astype(np.float64) - 1.0
        work = counts[:, :5].sum(axis=1) + self._CALL * counts[:, 5]
        vector, parallel = counts[:, 16 + 2], counts[:, 16 + 22 + 1]
        speed = np.clip(vector, 1, self._LANES) * np.clip(parallel, 1, self._CORES)
        lines = sum(counts[:, 57 + 18 * buffer + 15] for buffer in range(5))
        seconds = np.maximum(work / speed / self._OPS_PER_S, lines / self._LINES_PER_S)
        return -np.log(np.maximum(seconds, 1e-12)).astype(np.float32)


class Tvm:
    """MetaSchedule's own XGBModel, which takes live schedules: `live` has them by the bytes of their feature vector."""

    def __init__(self, live: Mapping[bytes, tuple[Any, Any]]) -> None:
        from kernels.metaschedule import meta_schedule

        self._ms = meta_schedule()
        self._live = live
        self._model = self._ms.cost_model.XGBModel(num_warmup_samples=0, num_tuning_cores=1)

    def fit(
        self,
        features: NDArray[np.float32],
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        for group in np.unique(groups):
            mine = [i for i in np.flatnonzero(groups == group) if features[i].tobytes() in self._live]
            if not mine:
                continue
            candidates = [self._live[features[i].tobytes()] for i in mine]
            # What failed, or was given up, has no time: TVM's runner then returns 1e10 s.
            seconds = [[outcomes[i].seconds or 1e10] for i in mine]
            results = [self._ms.runner.RunnerResult(s, None) for s in seconds]
            self._model.update(candidates[0][0], [candidate for _, candidate in candidates], results)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        candidates = [self._live[vector.tobytes()] for vector in features]
        scores = self._model.predict(candidates[0][0], [candidate for _, candidate in candidates])
        return np.asarray(scores, dtype=np.float32)


def live_schedules(config: str, store: SqlStore) -> dict[bytes, tuple[Any, Any]]:
    """(tuning context, measure candidate) of each record of the config's tasks, by the bytes of its feature vector."""
    import json

    from tvm.target import Target

    from kernels.metaschedule import meta_schedule
    from kernels.passes import PASSES
    from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
    from tuner import config as config_file
    from tuner.commands.prepare import lowered
    from tuner.devices import resolve as targets
    from tuner.progress import Progress

    given = config_file.load(config)
    target = targets.resolve(given.target)
    _, variants = lowered(given, target, Progress(live=False))
    made = Target(json.loads(target.text))
    tasks = {task.key: task for variant in variants for task in variant.tasks}
    appliers = {}
    live = {}
    for record in store.read():
        task = tasks.get(record.task_key)
        if task is None or not record.features:
            continue
        if record.task_key not in appliers:
            space = generate(task.workload, made, tuple(PASSES))
            appliers[record.task_key] = TraceApplier(task.workload, space, made)
        applier = appliers[record.task_key]
        with contextlib.suppress(InvalidCandidate, ValueError):
            schedule = applier.apply(Candidate.from_text(record.candidate))
            vector = np.asarray(record.features, dtype=np.float32)
            live[vector.tobytes()] = (applier.context, meta_schedule().MeasureCandidate(schedule, []))
    return live


MODELS: dict[str, Callable[[], CostModel]] = {
    "constant": ConstantModel,
    "static, analytical": Static,
    "nearest neighbour": Nearest,
    "trees, encoding": OnEncodings,
    "Gaussian processes, encoding": Surrogates,
    "trees, program": lambda: XgbRanker(SCHEMA),
}


def only(table: training.TaskTrials, live: Mapping[bytes, object]) -> training.TaskTrials:
    """The vectors of a table that have a live schedule."""
    chosen = [i for i, vector in enumerate(table.vectors) if vector.tobytes() in live]
    return dataclasses.replace(table, vectors=table.vectors[chosen], outcomes=tuple(table.outcomes[i] for i in chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", help="a record database, e.g. sqlite:///results/records.db")
    parser.add_argument("--config", help="the run file the records are of: TVM's XGBModel is then compared as well")
    arguments = parser.parse_args()
    models = dict(MODELS)
    with SqlStore(arguments.database) as store:
        known = training.trials_by_task(store)
        if arguments.config:
            live = live_schedules(arguments.config, store)
            # all models see the same: what has no live schedule is left out
            known = [only(table, live) for table in known]
            models["TVM's XGBModel"] = lambda: Tvm(live)
    across = [name for name in models if name not in ("nearest neighbour", "Gaussian processes, encoding")]
    for question, evaluate, names in (
        ("from 16 trials of the task", lambda make: training.within(known, make, 16), list(models)),
        ("from 64 trials of the task", lambda make: training.within(known, make, 64), list(models)),
        ("from other tasks only", lambda make: training.held_out(known, make), across),
    ):
        print(f"{question:32s} tasks   rho  top-10  regret")
        for name in names:
            qualities = list(evaluate(models[name]).values())
            means = [np.mean([getattr(q, f) for q in qualities]) for f in ("correlation", "recall", "regret")]
            print(f"  {name:30s} {len(qualities):5d} {means[0]:5.2f} {means[1]:7.2f} {means[2]:7.3f}")
    features = np.concatenate([t.vectors for t in known])[:1000]
    outcomes = [o for t in known for o in t.outcomes][:1000]
    groups = np.concatenate([np.full(len(t.vectors), i) for i, t in enumerate(known)])[:1000]
    took = []
    for _ in range(5):
        began = time.perf_counter()
        XgbRanker(SCHEMA).fit(features, outcomes, groups)
        took.append(time.perf_counter() - began)
    print(f"training on {len(features)} vectors: {min(took):.2f} s, one thread, best of 5")


if __name__ == "__main__":
    main()
