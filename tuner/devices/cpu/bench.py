"""The parent's side of running kernels on this machine's CPU: whatever one does to its child is a status."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuner.devices.cpu.supervisor import WorkerSupervisor
from tuner.process.worker import ChildDied, ChildError, ChildTimeout
from tuner.protocols import AaControl, Job, Policy
from tuner.records import Measurement, Status

_SERVICE = "tuner.devices.cpu.kernel_service:KernelService"


class KernelBench:
    """The parent's side: whatever a kernel does to the child it runs in is a status."""

    def __init__(
        self, mode: str, threads: int, env: Mapping[str, str], timeout_s: float, replay: Path | None = None
    ) -> None:
        settings = {"mode": mode, "threads": threads, "replay": None if replay is None else str(replay)}
        self._timeout_s = timeout_s
        self._supervisor = WorkerSupervisor(_SERVICE, settings, env, timeout_s)

    @property
    def rechecks(self) -> bool:
        return True

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """Check and time one artifact. Whatever goes wrong is a status with a reason.

        Raises InfrastructureError when a kernel that was right before is so no longer.
        """
        began = time.perf_counter()
        try:
            measurement = Measurement.from_json(self._supervisor.run(job, policy))
        except ChildTimeout as error:
            status, reason = Status.RUN_TIMEOUT, str(error)
        except (ChildDied, ChildError) as error:
            status, reason = Status.RUN_FAILED, str(error)
        else:
            self._learn([measurement], [job])
            return measurement
        return Measurement(status, fidelity=policy.fidelity, reason=reason[:300], run_s=time.perf_counter() - began)

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        """Check and time several kernels of one task interleaved, in this bench's process; `budget_s` for all of it.

        When one of them takes the process down, nothing of this part is kept: each is measured alone, so that
        only the culprit is blamed, and there is no A/A control.
        """
        timeout = self._timeout_s * (1 + len(jobs)) + budget_s
        asked = {"jobs": [job.to_json() for job in jobs], "policy": policy.to_json()}
        try:
            answer = self._supervisor.call("measure_interleaved", timeout, **asked, budget_s=budget_s, seed=seed)
            measured = [Measurement.from_json(m) for m in answer["measurements"]]
            self._learn(measured, jobs)
            control = answer["control"]
            return measured, None if control is None else AaControl.from_json(control)
        except (ChildTimeout, ChildDied, ChildError):
            self._supervisor.replace()
            alone = dataclasses.replace(policy, max_time_s=min(policy.max_time_s, budget_s / len(jobs)))
            return [self.measure(job, alone) for job in jobs], None

    def renew(self) -> None:
        """What is measured next runs in a fresh process."""
        self.close()

    def store_outputs(self, job: Job, path: Path) -> str | None:
        """Run once and store the outputs; the reason when that fails."""
        try:
            self._supervisor.call("outputs", self._timeout_s, job=job.to_json(), path=str(path))
        except (ChildTimeout, ChildDied, ChildError) as error:
            return str(error)
        return None

    def close(self) -> None:
        self._supervisor.close()

    def _learn(self, measurements: Sequence[Measurement], jobs: Sequence[Job]) -> None:
        """Which kernels are right; after a wrong one, which may have written anywhere, a new child."""
        for measurement, job in zip(measurements, jobs, strict=True):
            if measurement.ok:
                self._supervisor.remember(measurement.median_s, job)
        if any(measurement.status is Status.WRONG_RESULT for measurement in measurements):
            self._supervisor.replace()
