"""`model`: train cost models on the records, and evaluate them on tasks or trials that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from costmodel.base import CostModel
from costmodel.dataset import CandidateOutcome
from costmodel.metrics import rank_correlation, regret_at_k, top_k_recall
from costmodel.xgb import MEMBERS, XgbRanker
from kernels.features import COLUMNS, EARLIER_SCHEMAS, SCHEMA
from tuner.errors import UserError
from tuner.protocols import RecordStore
from tuner.tuning.earlier import Trial, trials

LEAST = 48
"""With fewer timed candidates of a task, a model's order of them is not evaluated."""

WITHIN = 64
"""The first trials of a task, which a model is trained on before it orders the rest."""

TOP = 10
"""Candidates that count for recall and regret: see costmodel.metrics."""


@dataclass(frozen=True)
class TaskTrials:
    """The trials of one task in one scope, in their order: feature vectors [n, len(COLUMNS)] and their outcomes."""

    key: str
    name: str
    vectors: NDArray[np.float32] = field(repr=False)
    outcomes: tuple[CandidateOutcome, ...] = field(repr=False)

    @property
    def timed(self) -> NDArray[np.int64]:
        """The numbers of the trials that have a time."""
        return np.flatnonzero([o.seconds is not None for o in self.outcomes])


def trials_by_task(store: RecordStore) -> list[TaskTrials]:
    """Screenings whose features are of this version, by scope and task. Raises UserError when there are none."""
    by_task: dict[tuple[str, str], list[Trial]] = {}
    for record, vector, outcome in trials(store, COLUMNS):
        by_task.setdefault((record.scope, record.task_key), []).append((record.task_name, vector, outcome))
    if not by_task:
        raise UserError("no record has the features that this version's model learns from", "tune a model first")
    return [
        TaskTrials(key, known[0][0], np.stack([vector for _, vector, _ in known]), tuple(o for _, _, o in known))
        for (_, key), known in by_task.items()
    ]


def train(known: Sequence[TaskTrials], seed: int = 0, threads: int = 1) -> XgbRanker:
    """A model trained on all tasks, each of which is a group of its own."""
    model = XgbRanker(SCHEMA, seed, threads, columns=COLUMNS)
    fit(model, known)
    return model


def fit(model: CostModel, known: Sequence[TaskTrials]) -> None:
    """Train a model on all tasks, each of which is a group of its own."""
    vectors = np.concatenate([task.vectors for task in known])
    groups = np.concatenate([np.full(len(task.vectors), i) for i, task in enumerate(known)])
    model.fit(vectors, [outcome for task in known for outcome in task.outcomes], groups)


@dataclass(frozen=True)
class Quality:
    """How well a model orders `of` timed candidates of a task: see costmodel.metrics."""

    correlation: float
    recall: float
    regret: float
    of: int


def quality(model: CostModel, task: TaskTrials, timed: NDArray[np.int64]) -> Quality:
    """How well a model orders the trials with these numbers, all of which have a time."""
    seconds = [task.outcomes[i].seconds or 0.0 for i in timed]
    scores = model.predict(task.vectors[timed])
    return Quality(
        rank_correlation(scores, seconds),
        top_k_recall(scores, seconds, TOP),
        regret_at_k(scores, seconds, TOP),
        len(timed),
    )


def held_out(known: Sequence[TaskTrials], make: Callable[[], CostModel]) -> dict[str, Quality]:
    """For each task with enough times: how well a model of the other tasks orders its candidates."""
    qualities = {}
    for task in known:
        others = [other for other in known if other.key != task.key]
        if len(task.timed) >= LEAST and others:
            model = make()
            fit(model, others)
            qualities[f"{task.name} {task.key[:8]}"] = quality(model, task, task.timed)
    return qualities


def within(known: Sequence[TaskTrials], make: Callable[[], CostModel], first: int = WITHIN) -> dict[str, Quality]:
    """For each task with enough times: how well a model of its `first` trials orders the rest."""
    qualities = {}
    for task in known:
        rest = task.timed[task.timed >= first]
        if len(rest) >= LEAST:
            model = make()
            model.fit(task.vectors[:first], task.outcomes[:first], np.zeros(first, dtype=np.int64))
            qualities[f"{task.name} {task.key[:8]}"] = quality(model, task, rest)
    return qualities


def description(file: Path) -> list[tuple[str, str]]:
    """What a saved model is, as rows of two. Raises UserError for a file that is no model of this version."""
    try:
        model = XgbRanker.load(file, SCHEMA, columns=COLUMNS, earlier=EARLIER_SCHEMAS)
        size = file.stat().st_size
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}", "train one: python -m tuner model train") from error
    if model is None:
        raise UserError(
            f"{file}: not a whole model of the schema {SCHEMA!r}", "train it again: python -m tuner model train"
        )
    return [
        ("file", str(file)),
        ("schema", model.schema),
        ("columns", str(len(model.trained_columns))),
        ("members", str(MEMBERS)),
        ("validity head", "yes" if model.has_validity else "no: too few failures were known"),
        ("bytes", str(size)),
    ]


def assessment(known: Sequence[TaskTrials]) -> list[tuple[str, ...]]:
    """How well models of the other tasks, and of its own first trials, order each task. The first line has the titles.

    Raises UserError when no task has enough times.
    """
    lines: list[tuple[str, ...]] = [("task", "learned from", "of", "rank correlation", f"top-{TOP} recall", "regret")]
    for source, qualities in (
        ("other tasks", held_out(known, lambda: XgbRanker(SCHEMA))),
        (f"first {WITHIN} trials", within(known, lambda: XgbRanker(SCHEMA))),
    ):
        for name, q in qualities.items():
            lines.append((name, source, str(q.of), f"{q.correlation:.2f}", f"{q.recall:.2f}", f"{q.regret:.3f}"))
    if len(lines) == 1:
        raise UserError(
            f"no task has {LEAST} timed candidates to evaluate a model with", "tune longer, or another model"
        )
    return lines
