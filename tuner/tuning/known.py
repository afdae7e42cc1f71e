"""What is stored of a model's tasks, and what it leaves of the budget (docs/decisions/0004-budget.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.config import SearchConfig
from tuner.records import Fidelity, Record

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace
    from tuner.tuning.phase import Budget
    from tuner.tuning.session import Cut, Known, Ledger

_SMALL_CHANGE, _SMALL_CHANGE_S = 0.1, 5.0
"""A rest of an earlier run's budget below this share or these seconds counts as spent: it is what that run kept
back for ranking its finalists, or spent on what no trial can be charged with."""


@dataclass
class KnownTask:
    """The space of a task and what is stored of it: the newest record of each candidate and tier, feature rows, and the
    runs that all of it is from."""

    space: DesignSpace
    measured: dict[tuple[str, Fidelity], Record] = field(default_factory=dict)
    rows: dict[Candidate, NDArray[np.float32]] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)

    @property
    def trials(self) -> int:
        return sum(fidelity is Fidelity.SCREEN for _, fidelity in self.measured)

    def add(self, record: Record, length: int) -> None:
        """Take a record in, unless it names no point of the space: it may be damaged, or of a run with other passes.

        Features of another length than `length` are another version's.
        """
        from tuner.search.base import candidate_of

        candidate = candidate_of(self.space, record.candidate)
        if candidate is None:
            return
        self.runs.add(record.run_id)
        self.measured[candidate.to_text(), record.measurement.fidelity] = record
        if len(record.features) == length:
            self.rows[candidate] = np.asarray(record.features, dtype=np.float32)

    def apart(self, cut: Collection[str]) -> tuple[Known, Cut]:
        """What a session is told at once, and the screenings of runs that were cut off."""
        again = {p: r.measurement for p, r in self.measured.items() if r.run_id in cut and p[1] is Fidelity.SCREEN}
        known = {place: r.measurement for place, r in self.measured.items() if place not in again}
        return known, {text: measurement for (text, _), measurement in again.items()}


@dataclass(frozen=True)
class Left:
    """What earlier runs of a model left of its budget, after they had `spent_s`. `trials` None: no limit.

    `cut` are runs that did not come to their end, whose search is gone over again. Their trials and seconds are within
    the budget of the whole search.
    """

    spent_s: float
    seconds: float
    trials: int | None
    cut: frozenset[str]
    cut_s: float
    cut_trials: int

    @property
    def spent(self) -> bool:
        return self.seconds == 0.0 or self.trials == 0

    def budget(self, began: float, ledger: Ledger, interrupted: Callable[[], bool]) -> Budget:
        """The budget of a search that began at a moment of the monotonic clock."""
        from tuner.tuning.phase import Budget

        span_s = self.seconds + self.cut_s
        trials = None if self.trials is None else self.trials + self.cut_trials
        return Budget(began + span_s, span_s, trials, ledger, interrupted)


def left(search: SearchConfig, mine: Sequence[Record], ended: Collection[str]) -> Left:
    """What the records of this model's runs leave of its budget. `ended` are the runs that came to their end."""
    from tuner.tuning.session import cost_s

    spent_s = sum(map(_spent_s, mine))
    seconds = search.time_budget_s - spent_s
    if seconds < max(_SMALL_CHANGE_S, _SMALL_CHANGE * search.time_budget_s):
        seconds = 0.0
    screened = [record for record in mine if record.measurement.fidelity is Fidelity.SCREEN]
    trials = None if search.trials is None else max(search.trials - len(screened), 0)
    spent = seconds == 0.0 or trials == 0
    cut = frozenset() if spent else frozenset(record.run_id for record in mine) - frozenset(ended)
    again = [cost_s(record.measurement) for record in screened if record.run_id in cut]
    return Left(spent_s, seconds, trials, cut, sum(again), len(again))


def _spent_s(record: Record) -> float:
    """Seconds of a search's budget that a measurement took; certification has a time of its own."""
    from tuner.tuning.session import cost_s

    if record.measurement.fidelity is Fidelity.SCREEN:
        return cost_s(record.measurement)
    return record.measurement.run_s if record.measurement.fidelity is Fidelity.RANK else 0.0
