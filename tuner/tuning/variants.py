"""Choosing among lowered variants of a model: a few initial candidates of each kernel, then the fastest variant."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tuner.graph import Choices, Lowered
from tuner.protocols import Task
from tuner.tuning.budget import Budget
from tuner.tuning.session import TaskSession

PROBE_TRIALS = 2
"""Initial candidates a task gets for each graph configuration before one is chosen."""

_PROBE_SHARE = 0.4
"""The share of the budget that choosing among graph configurations may take."""


def choose(
    variants: Sequence[Choices],
    session_of: Callable[[Task], TaskSession],
    budget: Budget,
    show: Callable[[TaskSession], None],
) -> tuple[Choices, list[str]]:
    """The variant whose kernels' best times, weighted by use, add up to the least after a few trials each, and why.

    Each variant has the same share of the probing time; one whose tasks did not all get a time is not chosen,
    unless there is no other.
    """
    if len(variants) == 1:
        return variants[0], []
    share_s = _PROBE_SHARE * budget.left_s / len(variants)
    totals: list[float] = []
    sentences = []
    for lowered in (variant.lowered for variant in variants):
        totals.append(_probe(lowered, session_of, budget, share_s, show))
        taken = f"kernels take {1e3 * totals[-1]:.3g} ms" if totals[-1] < float("inf") else "not all kernels got a time"
        sentences.append(f"graph configuration {lowered.config.to_text()}: {taken} in the probing")
    chosen = variants[min(range(len(variants)), key=totals.__getitem__)]
    return chosen, [*sentences, f"chosen: {chosen.lowered.config.to_text()}"]


def _probe(
    lowered: Lowered,
    session_of: Callable[[Task], TaskSession],
    budget: Budget,
    share_s: float,
    show: Callable[[TaskSession], None],
) -> float:
    """Seconds that the kernels of a variant take together; infinite where one of them has no time."""
    until = time.monotonic() + share_s
    total = 0.0
    for task in sorted(lowered.tasks, key=lambda t: -t.weight * t.workload.flops):
        session = session_of(task)
        if time.monotonic() < until:
            session.probe(session.space.initial_candidates()[:PROBE_TRIALS], budget.before(until))
            show(session)
        total += task.weight * (session.best_s if session.best_s is not None else float("inf"))
    return total
