"""A search on the null device: what the tests of the loop share. No compiler and no child process is started."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kernels.space import Candidate
from kernels.tensors import TensorSpec
from kernels.workload import Workload
from tests.null_device import COST_S, Null, NullBench, samples_of
from tuner.config import SearchConfig
from tuner.progress import Progress
from tuner.protocols import Job, Policy, RecordStore, Stop, Task
from tuner.records import Conditions, Fidelity, Measurement, Record, Status
from tuner.tuning.budget import Budget
from tuner.tuning.context import SearchContext
from tuner.tuning.searcher import Searcher

BEST = Candidate(0, (5, 5, 5))
UNTUNED = Candidate(-1)
SPEC = TensorSpec((2, 3), "float32")


def task_named(name: str = "square", weight: int = 1, flops: float = 6.0) -> Task:
    """A task of one input and one output; its key is its name's."""
    return Task(Workload(name, f"key-of-{name}", "", (SPEC, SPEC), 1, flops), "a target", weight)


class Loop:
    """A searcher on a null device of its own, over a store that may be another's, too."""

    def __init__(
        self,
        folder: Path,
        store: RecordStore,
        run_id: str = "run",
        interrupted: Stop = lambda: False,
        usable: Callable[[Record], bool] = lambda record: True,
        **search: Any,
    ) -> None:
        self.device = Null(folder / f"kernels-{run_id}")
        self.store = store
        self.said = io.StringIO()
        self.context = SearchContext(
            SearchConfig(**{"strategy": "random", "time_budget_s": 600.0, "effort": "quick", **search}), (), run_id,
            "scope", folder, Progress(self.said, live=False), interrupted, environment="here", commit="a commit",
            usable=usable,
        )  # fmt: skip

    def searcher(self) -> Searcher:
        return Searcher(self.device, self.store, self.context)

    def records(self, fidelity: Fidelity | None = None) -> list[Record]:
        """This run's, in their order."""
        read = self.store.read(run_id=self.context.run_id)
        return [r for r in read if fidelity in (None, r.measurement.fidelity)]


def allowed(
    searcher: Searcher, trials: int | None = None, seconds: float = 600.0, stop: Stop = lambda: False
) -> Budget:
    return Budget.starting_now(seconds, trials, searcher.ledger, stop)


@dataclasses.dataclass
class Scripted(NullBench):
    """The null bench, with other outcomes for some candidates. `jobs` has every job that it was given."""

    outcomes: Mapping[Candidate, Measurement] = dataclasses.field(default_factory=dict)
    jobs: list[tuple[Job, Policy]] = dataclasses.field(default_factory=list)
    measured: int = 0

    def measure(self, job: Job, policy: Policy) -> Measurement:
        self.jobs.append((job, policy))
        candidate = Candidate.from_text(job.candidate)
        outcome = self.outcomes.get(candidate)
        if outcome is None:
            return super().measure(job, policy)
        self.measured += 1
        return dataclasses.replace(outcome, fidelity=policy.fidelity, conditions=Conditions(cost_s=COST_S))


def timed(seconds: float, fidelity: Fidelity = Fidelity.SCREEN, **conditions: Any) -> Measurement:
    return Measurement(
        Status.OK, samples_of(seconds), fidelity, conditions=Conditions(**{"cost_s": COST_S, **conditions})
    )


def failed(status: Status, reason: str = "on purpose") -> Measurement:
    return Measurement(status, reason=reason)


def record_of(
    task: Task, candidate: Candidate, measurement: Measurement, run_id: str = "earlier", trial: int = 1, **changes: Any
) -> Record:
    """What an earlier run stored."""
    stated = {"scope": "scope", "seed": 0, "created_at": "2026-01-01T00:00:00+00:00", **changes}
    return Record(
        run_id=run_id, task_key=task.key, task_name=task.name, trial=trial, candidate=candidate.to_text(),
        proposer="random", measurement=measurement, **stated,
    )  # fmt: skip
