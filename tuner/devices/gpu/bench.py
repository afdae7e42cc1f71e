"""The parent's side of measuring on GPUs: for each a disposable child, a lock across processes, and a health check."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.devices.child_bench import call_interleaved, failure, measure_each
from tuner.errors import InfrastructureError
from tuner.process.limits import Limits
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import AaControl, Job, Policy
from tuner.records import Measurement, Status

RUN_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 120.0
_HEALTH_TIMEOUT_S = 20.0
_HEALTH_PAUSES_S = (0.0, 2.0, 10.0)
"""Before each health check after a failure: the driver takes seconds to clear away what a killed process left."""

_ELEMENTS_PER_S = 1e7
"""How fast inputs are drawn and copied, and outputs checked, at the very least."""


@dataclass(frozen=True)
class Service:
    """The child of a bench: its service (a subclass of `GpuService`), what it is made with, its environment and limits.

    `label` names the GPU in messages, and `advice` says what to do when it no longer works.
    """

    name: str
    settings: Mapping[str, Any]
    label: str
    advice: str
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits | None = None

    def start(self) -> Child:
        return Child(self.name, self.settings, self.env, limits=self.limits)


class GpuBench:
    """Implements `protocols.Bench` and `BundleBench` on one GPU, whose name is `device`.

    A kernel's first calls and its checks may take `run_timeout_s`, or RUN_TIMEOUT_S; `lock` tells this GPU from all
    others. Methods raise InfrastructureError when the GPU itself no longer works.
    """

    _RUNS_BEFORE_REPLACEMENT = 400

    def __init__(self, service: Service, device: str, lock: str, run_timeout_s: float | None = None) -> None:
        self._service = service
        self.device = device
        self._lock = lock
        self._run_timeout_s = RUN_TIMEOUT_S if run_timeout_s is None else run_timeout_s
        self._child: Child | None = None
        self._runs = 0

    @property
    def rechecks(self) -> bool:
        return False

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """Check and time one kernel. Whatever goes wrong with it is a status with a reason.

        A failure in a child that others ran in before may be theirs: it is tried again alone before it is believed.
        """
        with locked(self._lock):
            alone = self._runs == 0 or self._child is None or not self._child.alive()
            measured, broken = self._once(job, policy)
            if broken and not alone and measured.status is Status.RUN_FAILED:
                self._require_healthy(measured.reason)
                measured, broken = self._once(job, policy)
                conditions = measured.conditions
                conditions = dataclasses.replace(conditions, details={**conditions.details, "tried_again_alone": True})
                measured = dataclasses.replace(measured, conditions=conditions)
            if broken:
                self._require_healthy(measured.reason)
        return measured

    def measure_interleaved(
        self, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], AaControl | None]:
        """Check and time several kernels of one task interleaved, within about `budget_s` seconds, and the first one's
        A/A control. When one of them breaks the context nothing of this is kept, and each is measured alone."""
        elements = sum(job.elements for job in jobs)
        timeout_s = self._run_timeout_s * len(jobs) + budget_s + elements / _ELEMENTS_PER_S
        with locked(self._lock):
            try:
                result = call_interleaved(self._ready().call, timeout_s, jobs, policy, budget_s, seed)
            except (ChildTimeout, ChildDied, ChildError) as error:
                self._retire()
                self._require_healthy(str(error)[:300])
            else:
                self._runs += len(jobs)
                return result
        return measure_each(self, jobs, policy, budget_s)

    def store_outputs(self, job: Job, path: Path) -> str | None:
        """Run once and store the outputs; the reason when that fails."""
        with locked(self._lock):
            try:
                self._ready().call("outputs", self._run_timeout_s, job=job.to_json(), path=str(path))
            except (ChildTimeout, ChildDied, ChildError) as error:
                self._retire()
                return str(error)
        return None

    def renew(self) -> None:
        """What is measured next runs in a fresh process."""
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _once(self, job: Job, policy: Policy) -> tuple[Measurement, bool]:
        """A measurement, and whether the child is gone."""
        began = time.perf_counter()
        try:
            child = self._ready()
            self._runs += 1
            timeout_s = self._run_timeout_s + policy.max_time_s + job.elements / _ELEMENTS_PER_S
            reply = child.call("run", timeout_s, job=job.to_json(), policy=policy.to_json())
        except (ChildTimeout, ChildDied, ChildError) as error:
            self._retire()
            return failure(error, policy, began), True
        if reply["retire"]:
            self._retire()
        return Measurement.from_json(reply["measurement"]), bool(reply["retire"])

    def _require_healthy(self, failed: str) -> None:
        """Check the GPU in a fresh child after something `failed`. Raises InfrastructureError when it is broken."""
        why = ""
        for pause_s in _HEALTH_PAUSES_S:
            time.sleep(pause_s)
            try:
                if self._ready().call("health", _HEALTH_TIMEOUT_S):
                    return
                why = "a known kernel gives wrong outputs"
            except (ChildTimeout, ChildDied, ChildError) as error:
                why = str(error)
            self._retire()
        raise InfrastructureError(
            f"{self._service.label} ({self.device}) no longer works: {why[:200]}; before: {failed[:200]}",
            f"what was measured is kept; {self._service.advice}, then run the same command again",
        )

    def _retire(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _ready(self) -> Child:
        if self._child is not None and (not self._child.alive() or self._runs >= self._RUNS_BEFORE_REPLACEMENT):
            self.close()
        if self._child is None:
            self._child = self._service.start()
            self._runs = 0
        return self._child


@contextlib.contextmanager
def locked(lock: str) -> Iterator[None]:
    """Holds a GPU's lock: of all tuners on this machine, whoever runs them, only this one uses it. Waits for the lock,
    which the death of its owner frees. Raises InfrastructureError."""
    path = os.path.join(tempfile.gettempdir(), f"tuner-gpu-{re.sub('[^0-9A-Za-z]', '-', lock)}.lock")
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InfrastructureError(f"{path}: cannot be locked: {error.strerror}", "remove it, or set TMPDIR") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
