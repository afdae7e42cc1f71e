"""What earlier runs measured of other tasks, or of these on other devices: what a search may start from."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from costmodel.dataset import FAILURE, CandidateOutcome, align
from kernels.features import DEFAULTS
from kernels.space import Candidate
from tuner.environment import stands_apart
from tuner.protocols import RecordStore
from tuner.records import Fidelity, Record
from tuner.search.base import teaches, time_or_bound
from tuner.search.winners import Winners

Trial = tuple[str, NDArray[np.float32], CandidateOutcome]
"""The group that it belongs to, the candidate's feature vector, and what became of it."""


def earlier(store: RecordStore, columns: tuple[str, ...], scope: str, tasks: Collection[str]) -> list[Trial]:
    """What was measured of other tasks, and of these in other scopes, oldest first; each with a group's name. Other
    scopes whose devices only stand for another, and which `stands_apart` knows, are left out."""
    return [
        (f"{record.scope} {record.task_key}", vector, outcome)
        for record, vector, outcome in trials(store, columns)
        if (record.task_key not in tasks if record.scope == scope else not stands_apart(record.scope))
    ]


def trials(
    store: RecordStore, columns: tuple[str, ...], scope: str | None = None, task_key: str | None = None
) -> Iterator[tuple[Record, NDArray[np.float32], CandidateOutcome]]:
    """Every screening (in a scope, of a task) that teaches something, with its feature vector in the order of
    `columns`."""
    for record in store.read(scope=scope, task_key=task_key):
        measured = record.measurement
        if measured.fidelity is not Fidelity.SCREEN or not teaches(measured):
            continue
        vector = vector_of(record, columns)
        if vector is None:
            continue
        seconds = time_or_bound(measured)
        outcome = FAILURE
        if seconds is not None:
            outcome = CandidateOutcome(seconds=seconds) if measured.ok else CandidateOutcome(slower_than=seconds)
        yield record, vector, outcome


def vector_of(record: Record, columns: tuple[str, ...]) -> NDArray[np.float32] | None:
    """A record's feature vector in the order of `columns`; None where it has none that can be brought there.

    A column that the record does not have (of a pass that was added since) has the value that every earlier
    candidate had.
    """
    if not record.columns:
        return None
    return align(record.features, record.columns, columns, DEFAULTS)


def note_winners(
    winners: Winners, store: RecordStore, scope: str, tasks: Collection[str], ended: Collection[str]
) -> None:
    """Tell `winners` what was measured of other tasks in this scope, by runs that came to their end: a search that is
    replayed must find the same."""
    for record in store.read(scope=scope):
        if record.run_id in ended and record.task_key not in tasks and record.measurement.ok:
            with contextlib.suppress(ValueError):  # a damaged row is nobody's winner
                winners.note(record.task_key, Candidate.from_text(record.candidate), record.measurement.median_s)
