"""Candidates of one task on one device: built, checked, timed, and what became of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from kernels.space import Candidate
from tuner.files import require_room
from tuner.measure.plausible import plausible
from tuner.protocols import (
    SCREEN,
    Artifact,
    BuildFailure,
    Job,
    Policy,
    Stop,
    Task,
    TuningDevice,
    job_of,
)
from tuner.records import Fidelity, Measurement, Status
from tuner.tuning.references import References

_KEEP_BUILT = 8


class Trials:
    """Builds, checks and times candidates of `task`. `folder` is scratch space; `seed` that of the search's inputs."""

    def __init__(self, task: Task, untuned: Candidate, device: TuningDevice, seed: int, folder: Path) -> None:
        self._task = task
        self._untuned = untuned
        self._builder = device.builder
        self._bench = device.bench
        self._lower_bound_s = device.lower_bound_s(task)
        self._folder = folder
        self._artifacts: dict[Candidate, Artifact] = {}
        self.references = References(
            task, device.builder, seed, folder, device.bench.rechecks, self._store_untuned_outputs
        )

    def build(self, candidates: Sequence[Candidate], stop: Stop) -> dict[Candidate, Artifact | BuildFailure]:
        """What new candidates were built to; those that `stop` left out are not in it."""
        return dict(zip(candidates, self._builder.build(self._task, candidates, stop), strict=False))

    def rebuilt(self, candidates: Sequence[Candidate], stop: Stop) -> list[Artifact | BuildFailure]:
        """What candidates were built to before, built again where their files are gone; cut short by `stop`."""
        missing = [c for c in candidates if c not in self._artifacts or not self._artifacts[c].path.exists()]
        made = self.build(missing, stop) if missing else {}
        self._artifacts.update({c: b for c, b in made.items() if isinstance(b, Artifact)})
        built: list[Artifact | BuildFailure] = []
        for candidate in candidates:
            outcome = made.get(candidate) or self._artifacts.get(candidate)
            if outcome is None:
                break
            built.append(outcome)
        return built

    def measure(self, candidate: Candidate, built: Artifact | BuildFailure, policy: Policy, seed: int) -> Measurement:
        """What became of a candidate. Raises OutputError where it failed for want of room on the disk."""
        measurement = self._outcome(candidate, built, policy, seed)
        if measurement.status in (Status.BUILD_FAILED, Status.RUN_FAILED):
            require_room(self._folder)  # before the candidate is blamed for good
        return measurement

    def _outcome(self, candidate: Candidate, built: Artifact | BuildFailure, policy: Policy, seed: int) -> Measurement:
        job = self.job(candidate, built, policy.fidelity, seed)
        if isinstance(job, Measurement):
            return job
        if candidate.is_default:
            policy = dataclasses.replace(policy, give_up_above_s=None, enough_above_s=None)
        return plausible(self._bench.measure(job, policy), self._lower_bound_s)

    def job(
        self, candidate: Candidate, built: Artifact | BuildFailure, fidelity: Fidelity, seed: int
    ) -> Job | Measurement:
        """What a bench needs to run a candidate, or what became of it before it could run."""
        if isinstance(built, BuildFailure):
            return Measurement(built.status, fidelity=fidelity, reason=built.reason)
        self._artifacts[candidate] = built
        reference = self.references.of(seed)
        if reference is None:
            reason = f"no reference to check against: {self.references.unverified}"
            return Measurement(Status.RUN_FAILED, fidelity=fidelity, reason=reason)
        return job_of(self._task, candidate, built, seed, reference, self.references.recheck_of(seed))

    def plausible(self, measurement: Measurement) -> Measurement:
        """`measurement`, or SUSPECT where it is faster than this device can be."""
        return plausible(measurement, self._lower_bound_s)

    def keep_fastest(self, screened: Sequence[tuple[Candidate, Measurement]]) -> None:
        """Delete what was built, save for the untuned program and the few fastest."""
        timed = sorted((m.median_s, i) for i, (_, m) in enumerate(screened) if m.ok)
        kept = {screened[i][0] for _, i in timed[:_KEEP_BUILT]} | {self._untuned}
        for candidate in [c for c in self._artifacts if c not in kept]:
            artifact = self._artifacts.pop(candidate)
            artifact.path.unlink(missing_ok=True)
            artifact.path.with_suffix(".o").unlink(missing_ok=True)

    def _store_untuned_outputs(self, seed: int, path: Path) -> str | None:
        """Store what the untuned build gives on the inputs of a seed; the reason where that fails."""
        built = next(iter(self.rebuilt([self._untuned], lambda: False)), None)
        if not isinstance(built, Artifact):
            return "the untuned program does not build" + (f": {built.reason}" if built is not None else "")
        workload = self._task.workload
        job = Job(
            self._task.key, self._untuned.to_text(), built.path, built.entry, workload.inputs, workload.outputs, seed,
            resources=built.resources,
        )  # fmt: skip
        return self._bench.store_outputs(job, path)


def screening_policy(best_s: float | None, give_up: float, no_finalist: float) -> Policy:
    """How a new candidate is timed where the task's best takes `best_s` seconds: see `config.EffortSettings`."""
    if best_s is None:
        return SCREEN
    return dataclasses.replace(SCREEN, give_up_above_s=give_up * best_s, enough_above_s=no_finalist * best_s)
