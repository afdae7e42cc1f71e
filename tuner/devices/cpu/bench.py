"""The parent's side of running kernels on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuner.devices.child_bench import call_interleaved, failure, measure_each
from tuner.devices.cpu.supervisor import WorkerSupervisor
from tuner.measure.metadata import with_round_trips
from tuner.measure.states import StateProbe
from tuner.process.worker import ChildDied, ChildError, ChildTimeout
from tuner.protocols import AaControl, Job, Policy
from tuner.records import Measurement, Status

_SERVICE = "tuner.devices.cpu.kernel_service:KernelService"


class KernelBench:
    """Implements `protocols.Bench`: whatever a kernel does to the child it runs in is a status.

    `mode` is model, hot or cold, `env` the child's environment, `timeout_s` the longest that checking one kernel may
    take, `replay` a file of recorded measurements that stand in for timing. `probe` tells the state of the CPUs before
    and after kernels are timed interleaved; it is stored with them.
    """

    def __init__(
        self,
        mode: str,
        threads: int,
        env: Mapping[str, str],
        timeout_s: float,
        replay: Path | None = None,
        probe: StateProbe | None = None,
    ) -> None:
        settings = {"mode": mode, "threads": threads, "replay": None if replay is None else str(replay)}
        self._timeout_s = timeout_s
        self._probe = probe
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
        except (ChildTimeout, ChildDied, ChildError) as error:
            return failure(error, policy, began)
        self._learn([measurement], [job])
        return measurement

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        """Check and time several kernels of one task interleaved, in this bench's process; `budget_s` for all of it.

        When one of them takes the process down, nothing of this is kept, and each is measured alone.
        """
        timeout_s = self._timeout_s * (1 + len(jobs)) + budget_s
        before_s = self._round_trip_s()
        try:
            measurements, control = call_interleaved(self._supervisor.call, timeout_s, jobs, policy, budget_s, seed)
        except (ChildTimeout, ChildDied, ChildError):
            self._supervisor.replace()
            return measure_each(self, jobs, policy, budget_s)
        self._learn(measurements, jobs)
        round_trips = [s for s in (before_s, self._round_trip_s()) if s is not None]
        return [with_round_trips(m, round_trips) for m in measurements], control

    def renew(self) -> None:
        """What is measured next runs in a fresh process."""
        self._supervisor.close()

    def store_outputs(self, job: Job, path: Path) -> str | None:
        """Run once and store the outputs; the reason when that fails."""
        try:
            self._supervisor.call("outputs", self._timeout_s, job=job.to_json(), path=str(path))
        except (ChildTimeout, ChildDied, ChildError) as error:
            return str(error)
        return None

    def close(self) -> None:
        self._supervisor.close()
        if self._probe is not None:
            self._probe.close()

    def _round_trip_s(self) -> float | None:
        return None if self._probe is None else self._probe.round_trip_s()

    def _learn(self, measurements: Sequence[Measurement], jobs: Sequence[Job]) -> None:
        """Remember right kernels; replace the child after a wrong one, which may have written anywhere."""
        for measurement, job in zip(measurements, jobs, strict=True):
            if measurement.ok:
                self._supervisor.remember(measurement.median_s, job)
        if any(measurement.status is Status.WRONG_RESULT for measurement in measurements):
            self._supervisor.replace()
