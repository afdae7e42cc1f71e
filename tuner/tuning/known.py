"""What is stored of a model's tasks, and what it leaves of the budget (docs/decisions/0004-budget.md)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels.space import Candidate, DesignSpace
from tuner.config import SearchConfig
from tuner.protocols import Stop
from tuner.records import Fidelity, Record
from tuner.search.base import candidate_of
from tuner.tuning.budget import Budget
from tuner.tuning.earlier import vector_of
from tuner.tuning.ledger import Ledger, cost_s
from tuner.tuning.session import Interrupted, Known

_SMALL_CHANGE, _SMALL_CHANGE_S, _MOST_SMALL = 0.1, 5.0, 0.25
"""A rest of an earlier run's budget below this share or these seconds (of a budget of a few seconds, below the last
share) counts as spent: it is what that run kept back for ranking its finalists, or spent on what no trial can be
charged with."""


@dataclass
class KnownTask:
    """The space of a task and what is stored of it: the newest record of each candidate and fidelity, feature vectors,
    and the runs that all of it is from. Not `reached`: there was no time to make its space, and no builder has it."""

    space: DesignSpace
    measured: dict[tuple[str, Fidelity], Record] = field(default_factory=dict)
    vectors: dict[Candidate, NDArray[np.float32]] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    reached: bool = True

    @property
    def trials(self) -> int:
        return sum(fidelity is Fidelity.SCREEN for _, fidelity in self.measured)

    def add(self, record: Record, columns: tuple[str, ...]) -> None:
        """Take a record in, unless it names no point of the space: it may be damaged, or of a run with other passes.

        Features that cannot be brought to `columns` are another version's and left out.
        """
        candidate = candidate_of(self.space, record.candidate)
        if candidate is None:
            return
        self.runs.add(record.run_id)
        self.measured[candidate.to_text(), record.measurement.fidelity] = record
        vector = vector_of(record, columns)
        if vector is not None:
            self.vectors[candidate] = vector

    def apart(self, interrupted_runs: Collection[str]) -> tuple[Known, Interrupted]:
        """What a session is told at once, and the screenings of interrupted runs, which are replayed."""
        replayed = {
            (text, fidelity): record.measurement
            for (text, fidelity), record in self.measured.items()
            if record.run_id in interrupted_runs and fidelity is Fidelity.SCREEN
        }
        known = {place: r.measurement for place, r in self.measured.items() if place not in replayed}
        return known, {text: measurement for (text, _), measurement in replayed.items()}


@dataclass(frozen=True)
class Remaining:
    """What earlier runs of a model left of its budget, after they had `spent_s`. `trials` None: no limit.

    `interrupted` are runs that did not come to their end, whose search is replayed. Their trials and seconds are within
    the budget of the whole search.
    """

    spent_s: float
    seconds: float
    trials: int | None
    interrupted: frozenset[str]
    interrupted_s: float
    interrupted_trials: int

    @property
    def spent(self) -> bool:
        return self.seconds == 0.0 or self.trials == 0

    def budget(self, began: float, ledger: Ledger, stop: Stop) -> Budget:
        """The budget of a search that began at a moment of the monotonic clock."""
        span_s = self.seconds + self.interrupted_s
        trials = None if self.trials is None else self.trials + self.interrupted_trials
        return Budget(began + span_s, span_s, trials, ledger, stop)


def remaining(search: SearchConfig, records: Sequence[Record], ended: Collection[str]) -> Remaining:
    """What the records of this model's runs leave of its budget. `ended` are the runs that came to their end."""
    spent_s = sum(map(searched_s, records))
    seconds = search.time_budget_s - spent_s
    small_s = max(min(_SMALL_CHANGE_S, _MOST_SMALL * search.time_budget_s), _SMALL_CHANGE * search.time_budget_s)
    if seconds < (small_s if spent_s else 0.0):
        seconds = 0.0
    screened = [record for record in records if record.measurement.fidelity is Fidelity.SCREEN]
    trials = None if search.trials is None else max(search.trials - len(screened), 0)
    spent = seconds == 0.0 or trials == 0
    interrupted = frozenset() if spent else frozenset(record.run_id for record in records) - frozenset(ended)
    replayed = [cost_s(record.measurement) for record in screened if record.run_id in interrupted]
    return Remaining(spent_s, seconds, trials, interrupted, sum(replayed), len(replayed))


def searched_s(record: Record) -> float:
    """Seconds of a search's budget that a measurement took; certification has a time of its own."""
    if record.measurement.fidelity is Fidelity.SCREEN:
        return cost_s(record.measurement)
    return record.measurement.run_s if record.measurement.fidelity is Fidelity.RANK else 0.0
