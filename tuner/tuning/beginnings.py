"""Tasks that a search left without a candidate that is right begin from an initial one of their space.

TVM's own program is no place to stay: operands that were packed for vectors or for dot products are read element by
element there, some fifty to a hundred times slower than any schedule of the space.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tuner.tuning.context import SearchContext
from tuner.tuning.ledger import BEGINNING
from tuner.tuning.session import TaskSession

TRIES = 3
"""Initial candidates of a task that are tried, at most: one that is wrong, or does not build, seldom comes alone."""

IN_ANY_CASE_S = 10.0
"""So long tasks get candidates after an interrupt, and at most so long where a total budget has nothing left for them.
Without them, what follows takes longer still."""


def begin(sessions: Mapping[str, TaskSession], context: SearchContext, without_s: float = 0.0) -> int:
    """Build, check and time the next initial candidates of every task that has no right one, until one is.

    Tasks that compute most come first. It ends with the total budget, but not before `without_s`: what the model takes
    longer with TVM's own kernels. Returns for how many tasks a candidate was found.
    What is measured is recorded like any trial. A task stays without a candidate where `TRIES` more are wrong, too.
    """
    began = time.monotonic()

    def stop() -> bool:
        taken_s = time.monotonic() - began
        if context.interrupted():
            return taken_s >= IN_ANY_CASE_S
        return context.total.free_s <= 0.0 and taken_s >= min(without_s, IN_ANY_CASE_S)

    without = [session for session in sessions.values() if session.best is None and session.space.sketches]
    for session in sorted(without, key=lambda s: -s.task.weight * s.task.workload.flops):
        untried = [c for c in session.space.initial_candidates() if c not in session.screened]
        for candidate in untried[:TRIES]:
            if stop() or session.best is not None:
                break
            session.probe([candidate], stop, BEGINNING)
    return sum(session.best is not None for session in without)
