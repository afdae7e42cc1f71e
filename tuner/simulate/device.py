"""A recorded space as a device: nothing is built, and what is measured is what was recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.space import Candidate
from kernels.workload import Workload
from tuner.protocols import AaControl, Artifact, BuildFailure, Job, Policy, Reference, Stop, Task
from tuner.records import Measurement, Status
from tuner.simulate.recording import Recording
from tuner.simulate.space import RecordedSpace

SCHEMA = "encoding"
"""A feature vector of a recorded space is the encoding of its configuration: there is no program."""


def task_of(recording: Recording) -> Task:
    """The task that a recording is of; there is no program behind it."""
    return Task(Workload(recording.kernel, recording.name, "", (), 0, 0.0), recording.device)


@dataclass(frozen=True)
class SimulatedBuilder:
    """Implements `protocols.Builder`: every configuration builds at once. `folder` is where nothing is written."""

    recorded: RecordedSpace
    folder: Path

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"encoding.{number}" for number in range(self.recorded.rows.shape[1]))

    @property
    def schema(self) -> str:
        return SCHEMA

    def space(self, task: Task, pass_names: Sequence[str]) -> RecordedSpace:
        return self.recorded

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return [self.recorded.encode(candidate) for candidate in candidates]

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        """What the outputs were was checked when the space was recorded: here there are none."""
        path = folder / "recorded.npz"
        with open(path, "wb") as file:
            np.savez(file)
        return {seed: Reference(path, "float32", 1) for seed in seeds}

    def build(
        self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False
    ) -> list[Artifact | BuildFailure]:
        built: list[Artifact | BuildFailure] = []
        for candidate in candidates:
            if stop():
                break
            built.append(Artifact(self.folder / "nothing-is-built", candidate.to_text(), "", 0.0))
        return built

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class SimulatedBench:
    """Implements `protocols.Bench`. A time is the single sample that stands in the file."""

    recording: Recording

    @property
    def rechecks(self) -> bool:
        return False

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """What was recorded, in full: one that fails, or is slow, costs as much as any other."""
        row = self.recording.row_of.get(Candidate.from_text(job.candidate).decisions)  # type: ignore[arg-type]
        seconds = math.nan if row is None else float(self.recording.seconds[row])
        if math.isnan(seconds):
            reason = "not recorded" if row is None else "failed when it was recorded"
            return Measurement(Status.RUN_FAILED, fidelity=policy.fidelity, reason=reason)
        return Measurement(Status.OK, (seconds,), policy.fidelity)

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        return [self.measure(job, policy) for job in jobs], None

    def store_outputs(self, job: Job, path: Path) -> str | None:
        return "outputs are not recorded"

    def renew(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class SimulatedDevice:
    """Implements `protocols.TuningDevice`."""

    builder: SimulatedBuilder
    bench: SimulatedBench

    @staticmethod
    def of(recording: Recording, recorded: RecordedSpace, folder: Path) -> SimulatedDevice:
        """The device that a recording was made on. `folder` is scratch space."""
        return SimulatedDevice(SimulatedBuilder(recorded, folder), SimulatedBench(recording))

    def lower_bound_s(self, task: Task) -> float:
        return 0.0
