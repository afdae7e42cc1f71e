"""Cost models from records: what there is to learn from, training, and how good they are on what they have not seen."""

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
"""Measured candidates of a task below which nothing is said of a model's order of them."""

WITHIN = 64
"""Trials of a task that a model learns from before it orders the rest."""

TOP = 10


@dataclass(frozen=True)
class Table:
    """What is known of one task in one scope: rows [n, len(COLUMNS)] and what became of each, in their order."""

    key: str
    name: str
    rows: NDArray[np.float32] = field(repr=False)
    outcomes: tuple[CandidateOutcome, ...] = field(repr=False)

    @property
    def timed(self) -> NDArray[np.int64]:
        """The rows that have a time."""
        return np.flatnonzero([o.seconds is not None for o in self.outcomes])


def tables(store: RecordStore) -> list[Table]:
    """Screenings whose features are of this version, by scope and task. Raises UserError when there are none."""
    found: dict[tuple[str, str], list[Trial]] = {}
    for record, vector, outcome in trials(store, COLUMNS):
        found.setdefault((record.scope, record.task_key), []).append((record.task_name, vector, outcome))
    if not found:
        raise UserError("no record has the features that this version's model learns from", "tune a model first")
    return [
        Table(key, known[0][0], np.stack([vector for _, vector, _ in known]), tuple(o for _, _, o in known))
        for (_, key), known in found.items()
    ]


def train(known: Sequence[Table], seed: int = 0, threads: int = 1) -> XgbRanker:
    """A model of everything in the tables, each of which is a group of its own."""
    model = XgbRanker(SCHEMA, seed, threads, columns=COLUMNS)
    fit(model, known)
    return model


def fit(model: CostModel, known: Sequence[Table]) -> None:
    rows = np.concatenate([t.rows for t in known])
    groups = np.concatenate([np.full(len(t.rows), i) for i, t in enumerate(known)])
    model.fit(rows, [o for t in known for o in t.outcomes], groups)


@dataclass(frozen=True)
class Quality:
    """How well a model orders the timed candidates of a task: see costmodel.metrics. `of` is how many."""

    correlation: float
    recall: float
    regret: float
    of: int


def quality(model: CostModel, table: Table, rows: NDArray[np.int64]) -> Quality:
    """Of those `rows` of a table that have a time."""
    seconds = [table.outcomes[i].seconds or 0.0 for i in rows]
    scores = model.predict(table.rows[rows])
    return Quality(
        rank_correlation(scores, seconds),
        top_k_recall(scores, seconds, TOP),
        regret_at_k(scores, seconds, TOP),
        len(rows),
    )


def held_out(known: Sequence[Table], make: Callable[[], CostModel]) -> dict[str, Quality]:
    """For each task with enough times: the order of all its candidates by a model of the other tasks."""
    result = {}
    for table in known:
        others = [t for t in known if t.key != table.key]
        if len(table.timed) >= LEAST and others:
            model = make()
            fit(model, others)
            result[f"{table.name} {table.key[:8]}"] = quality(model, table, table.timed)
    return result


def within(known: Sequence[Table], make: Callable[[], CostModel], first: int = WITHIN) -> dict[str, Quality]:
    """For each task with enough times: the order of the rest by a model of its first trials."""
    result = {}
    for table in known:
        rest = table.timed[table.timed >= first]
        if len(rest) >= LEAST:
            model = make()
            model.fit(table.rows[:first], table.outcomes[:first], np.zeros(first, dtype=np.int64))
            result[f"{table.name} {table.key[:8]}"] = quality(model, table, rest)
    return result


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


def assessment(known: Sequence[Table]) -> list[tuple[str, ...]]:
    """How models of the other tasks, and of its own first trials, order each task; the first line names the columns."""
    lines: list[tuple[str, ...]] = [("task", "learned from", "of", "rank correlation", f"top-{TOP} recall", "regret")]
    for source, found in (
        ("other tasks", held_out(known, lambda: XgbRanker(SCHEMA))),
        (f"first {WITHIN} trials", within(known, lambda: XgbRanker(SCHEMA))),
    ):
        for name, q in found.items():
            lines.append((name, source, str(q.of), f"{q.correlation:.2f}", f"{q.recall:.2f}", f"{q.regret:.3f}"))
    if len(lines) == 1:
        raise UserError(f"no task has {LEAST} timed candidates to judge a model by", "tune longer, or another model")
    return lines
