"""A recorded space as a device: nothing is built, and a measurement is what was recorded."""

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
from tuner.simulate.recording import SpaceRecording
from tuner.simulate.space import RecordedSpace

SCHEMA = "encoding"
"""A feature vector of a recorded space is the encoding of its configuration: there is no program."""


def task_of(recording: SpaceRecording) -> Task:
    """The task that a recording is of. It has no program."""
    return Task(Workload(recording.kernel, recording.name, "", (), 0, 0.0), recording.device)


@dataclass(frozen=True)
class SimulatedBuilder:
    """Implements `protocols.Builder`: every configuration builds at once. Nothing is written to `folder`."""

    recorded: RecordedSpace
    folder: Path

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"encoding.{number}" for number in range(self.recorded.all_encodings.shape[1]))

    @property
    def schema(self) -> str:
        return SCHEMA

    def space(self, task: Task, pass_names: Sequence[str]) -> RecordedSpace:
        return self.recorded

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return [self.recorded.encode(candidate) for candidate in candidates]

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        """Files without outputs: those were checked when the space was recorded."""
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
    """Implements `protocols.Bench`. A measurement is the one time in the file."""

    recording: SpaceRecording

    @property
    def rechecks(self) -> bool:
        return False

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """The recorded time, whatever `policy` is: one that fails, or is slow, costs as much as any other."""
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
    def of(recording: SpaceRecording, recorded: RecordedSpace, folder: Path) -> SimulatedDevice:
        """The device that a recording was made on. `folder` is scratch space."""
        return SimulatedDevice(SimulatedBuilder(recorded, folder), SimulatedBench(recording))

    def lower_bound_s(self, task: Task) -> float:
        return 0.0
