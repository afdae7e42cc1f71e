"""Records as they come in: written at once, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tuner.protocols import Proposal, RecordStore, Task
from tuner.records import Fidelity, Measurement, Record

CANDIDATES, UNTUNED, BEGINNINGS = "candidates", "untuned", "beginnings"
"""What screenings are of, in `Ledger.counts`; measurements at another fidelity stand under its name."""

BEGINNING = "beginning"
"""Who proposes candidates of kernels that a search left without one, beyond its budget."""


@dataclass
class Ledger:
    """Writes records as they come in, and counts. One for a whole search.

    `numbered` is the number of the last trial that was written, in this attempt of the run or an earlier one. `trials`
    are those of this search, measured or restored from where it was interrupted; the restored ones had taken
    `restored_s`. `counts` says what was `measured`, and adds up to it. `environment`, `commit` and `columns` are what
    every record says of itself.
    """

    store: RecordStore
    run_id: str
    scope: str
    seed: int
    numbered: int = 0
    environment: str = ""
    commit: str = ""
    columns: tuple[str, ...] = ()
    trials: int = 0
    measured: int = 0
    reused: int = 0
    restored_s: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def write(self, task: Task, proposal: Proposal, measurement: Measurement, features: Sequence[float] = ()) -> None:
        """Store one measurement durably, and count it as a trial when it was a screening."""
        if measurement.fidelity is Fidelity.SCREEN:
            self.numbered += 1
            self._count(measurement)
        self.measured += 1
        screened = BEGINNINGS if proposal.proposer == BEGINNING else CANDIDATES
        screened = UNTUNED if proposal.candidate.is_default else screened
        self.counts[screened if measurement.fidelity is Fidelity.SCREEN else str(measurement.fidelity)] += 1
        record = Record(
            run_id=self.run_id,
            task_key=task.key,
            task_name=task.name,
            scope=self.scope,
            trial=self.numbered,
            candidate=proposal.candidate.to_text(),
            proposer=proposal.proposer,
            measurement=measurement,
            seed=self.seed,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            features=tuple(features),
            columns=self.columns if len(features) else (),
            environment=self.environment,
            commit=self.commit,
        )
        self.store.append([record])

    def restore(self, screening: Measurement) -> None:
        """Count a trial that was stored before this search was interrupted."""
        self._count(screening)
        self.restored_s += cost_s(screening)

    def _count(self, screening: Measurement) -> None:
        self.trials += 1
        if screening.failed:
            self.failed[screening.status.value] += 1


def cost_s(measurement: Measurement) -> float:
    """Seconds of search that a screening took; 0 where its record does not say so in a number."""
    return measurement.conditions.cost_s or 0.0


def batch_of(measurement: Measurement) -> int:
    """The batch of its task in which a candidate was screened; 0 where it was probed, or where nothing says so."""
    return measurement.conditions.batch or 0
