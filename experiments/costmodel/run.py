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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from costmodel.base import CostModel
from experiments.costmodel.models import MODELS, OF_ONE_TASK, TVM_MODEL, TvmModel, trees
from kernels.features import COLUMNS
from tuner.commands.model import Quality, TaskTrials, held_out, trials_by_task, within
from tuner.protocols import Task
from tuner.store import SqlStore
from tuner.tuning.earlier import trials

TRAINED_ON = 1000
"""Vectors, for the time of training."""

Make = Callable[[], CostModel]
Question = tuple[str, Callable[[Make], Mapping[str, Quality]], Sequence[str]]
"""In words, how a model answers it for each task, and the models that are asked."""


def live_schedules(config: str, store: SqlStore) -> dict[bytes, tuple[Any, Any]]:
    """(tuning context, measure candidate) of each record of the config's tasks, by the bytes of its feature vector."""
    from kernels.metaschedule import meta_schedule
    from kernels.passes import PASSES
    from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate

    tasks, target = _tasks_of(config)
    appliers: dict[str, TraceApplier] = {}
    live = {}
    for record, vector, _ in trials(store, COLUMNS):
        if record.task_key not in tasks:
            continue
        if record.task_key not in appliers:
            workload = tasks[record.task_key].workload
            appliers[record.task_key] = TraceApplier(workload, generate(workload, target, tuple(PASSES)), target)
        applier = appliers[record.task_key]
        with contextlib.suppress(InvalidCandidate, ValueError):
            schedule = applier.apply(Candidate.from_text(record.candidate))
            live[vector.tobytes()] = (applier.context, meta_schedule().MeasureCandidate(schedule, []))
    return live


def _tasks_of(path: str) -> tuple[dict[str, Task], Any]:
    """The tasks of a run file's model by key, and the TVM target."""
    from tuner import config
    from tuner.commands.prepare import lowered
    from tuner.devices.resolve import resolve
    from tuner.progress import Progress

    given = config.load(path)
    target = resolve(given.target)
    _, variants = lowered(given, target, Progress(live=False))
    return {task.key: task for variant in variants for task in variant.tasks}, target.tvm()


def with_live_schedule(table: TaskTrials, live: Mapping[bytes, object]) -> TaskTrials:
    """The part of a table that has a live schedule."""
    chosen = [i for i, vector in enumerate(table.vectors) if vector.tobytes() in live]
    return dataclasses.replace(table, vectors=table.vectors[chosen], outcomes=tuple(table.outcomes[i] for i in chosen))


def print_qualities(known: Sequence[TaskTrials], models: Mapping[str, Make]) -> None:
    """How each model orders candidates: after 16 and 64 trials of the task, and by other tasks only."""
    across = [name for name in models if name not in (*OF_ONE_TASK, TVM_MODEL)]  # TVM's takes too long to train on all
    questions: list[Question] = [
        ("from 16 trials of the task", lambda make: within(known, make, 16), list(models)),
        ("from 64 trials of the task", lambda make: within(known, make, 64), list(models)),
        ("from other tasks only", lambda make: held_out(known, make), across),
    ]
    for words, evaluate, names in questions:
        print(f"{words:32s} tasks   rho  top-10  regret")
        for name in names:
            print(f"  {name:30s} " + _means(list(evaluate(models[name]).values())))


def _means(qualities: Sequence[Quality]) -> str:
    if not qualities:
        return "    0"
    rho, recall, regret = np.mean([(q.correlation, q.recall, q.regret) for q in qualities], axis=0)
    return f"{len(qualities):5d} {rho:5.2f} {recall:7.2f} {regret:7.3f}"


def print_training(known: Sequence[TaskTrials]) -> None:
    """The seconds of training, the least of several."""
    features = np.concatenate([table.vectors for table in known])[:TRAINED_ON]
    outcomes = [outcome for table in known for outcome in table.outcomes][:TRAINED_ON]
    groups = np.concatenate([np.full(len(table.vectors), i) for i, table in enumerate(known)])[:TRAINED_ON]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        trees().fit(features, outcomes, groups)
        seconds.append(time.perf_counter() - began)
    print(f"training on {len(features)} vectors: {min(seconds):.2f} s, one thread, best of 5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", help="a record database, e.g. sqlite:///results/records.db")
    parser.add_argument("--config", help="the run file the records are of: TVM's XGBModel is then compared as well")
    arguments = parser.parse_args()
    models = dict(MODELS)
    with SqlStore(arguments.database) as store:
        known = trials_by_task(store)
        if arguments.config:
            live = live_schedules(arguments.config, store)
            # all models see the same: what has no live schedule is left out
            known = [with_live_schedule(table, live) for table in known]
            models[TVM_MODEL] = lambda: TvmModel(live)
    print_qualities(known, models)
    print_training(known)


if __name__ == "__main__":
    main()
