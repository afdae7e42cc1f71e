"""The parent's side of measuring on GPUs: for each a disposable child, a lock across processes, and a health check."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tuner.devices.child_bench import call_interleaved, failure, measure_each
from tuner.errors import InfrastructureError, TargetError
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import AaControl, Job, Policy
from tuner.records import Measurement, Status

RUN_TIMEOUT_S = 30.0
_OPEN_TIMEOUT_S = 120.0
_HEALTH_TIMEOUT_S = 20.0
_HEALTH_PAUSES_S = (0.0, 2.0, 10.0)
"""Before each health check after a failure: the driver takes seconds to clear away what a killed process left."""

_ELEMENTS_PER_S = 1e7
"""How fast inputs are drawn and copied, and outputs checked, at the very least."""

_SERVICE = "tuner.devices.cuda.kernel_service:GpuService"


def open_gpus(numbers: Sequence[int] | None, arch: str, mode: str) -> list[GpuBench]:
    """A bench for each of these GPUs, or for all there are. Raises TargetError, saying what is missing here."""
    present = _count()
    wanted = list(range(present)) if numbers is None else list(dict.fromkeys(numbers))
    for number in wanted:
        if number >= present:
            raise TargetError(f"--gpus: no GPU {number}, there are {present}, numbered from 0")
    benches: list[GpuBench] = []
    try:
        for number in wanted:
            bench = GpuBench(number, mode)
            benches.append(bench)
            if not runs(arch, bench.arch):
                raise TargetError(f"GPU {number} is a {bench.device} ({bench.arch}), and this is for {arch}",
                                  "compile for it: name it under `target` in the run file")  # fmt: skip
    except TargetError:
        for bench in benches:
            bench.close()
        raise
    return benches


def runs(cubin: str, gpu: str) -> bool:
    """Whether a cubin for `sm_XY` loads on a GPU of compute capability `sm_XZ`: the same major, no newer minor.

    One with a letter (`sm_90a`) loads on exactly that capability (CUDA C++ Programming Guide, "Feature set compiler
    targets"; family-specific `f` ones are treated alike, which refuses some that would load).
    """
    wanted, letter = re.fullmatch(r"sm_(\d+)([af]?)", cubin).groups()  # type: ignore[union-attr]
    present = gpu.removeprefix("sm_")
    if letter:
        return wanted == present
    return wanted[:-1] == present[:-1] and int(wanted[-1]) <= int(present[-1])


def _count() -> int:
    """How many GPUs are here. A child asks the driver: this process must stay one that can be forked from."""
    with Child("tuner.devices.cuda.bench:_Counter") as child:
        try:
            gpus = int(child.call("count", _OPEN_TIMEOUT_S))
        except (ChildTimeout, ChildDied, ChildError) as error:
            raise TargetError(_words(error), "on this host: pip install pycuda, where a CUDA toolkit is; elsewhere "
                              "the bundle can be measured with --runner replay:FILE only") from error  # fmt: skip
    if not gpus:
        raise TargetError("measuring on a GPU: missing here: a GPU (the driver sees none)")
    return gpus


def _words(error: Exception) -> str:
    if isinstance(error, ChildError) and error.kind in ("ModuleNotFoundError", "ImportError"):
        return f"measuring on a GPU: missing here: PyCUDA, or the driver it needs ({error})"
    return f"measuring on a GPU: missing here: a working NVIDIA driver ({error})"


class _Counter:
    """A child's service."""

    def op_count(self) -> int:
        from tuner.devices.cuda.driver import count

        return count()


class GpuBench:
    """Implements `protocols.Bench` and `BundleBench` on one GPU. `mode` is hot or cold.

    Methods raise InfrastructureError when the GPU itself no longer works.
    """

    _RUNS_BEFORE_REPLACEMENT = 400

    def __init__(self, number: int, mode: str) -> None:
        self._settings: dict[str, Any] = {"device": number, "mode": mode}
        self._number = number
        self._child: Child | None = None
        self._runs = 0
        try:
            self.description: dict[str, Any] = self._ready().call("describe", _OPEN_TIMEOUT_S)
        except (ChildTimeout, ChildDied, ChildError) as error:
            self.close()
            raise TargetError(f"GPU {number} cannot be used: {error}"[:400]) from error
        self.device = str(self.description["name"])
        self.arch = str(self.description["arch"])
        self._settings["bus_id"] = str(self.description["bus_id"])
        self.close()  # the next child counts the processes on this GPU by NVML, before it is one of them

    @property
    def rechecks(self) -> bool:
        return False

    def measure(self, job: Job, policy: Policy) -> Measurement:
        """Check and time one kernel. Whatever goes wrong with it is a status with a reason.

        A failure in a child that others ran in before may be theirs: it is tried again alone before it is believed.
        """
        with locked(self._settings["bus_id"]):
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
        timeout_s = RUN_TIMEOUT_S * len(jobs) + budget_s + elements / _ELEMENTS_PER_S
        with locked(self._settings["bus_id"]):
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
        with locked(self._settings["bus_id"]):
            try:
                self._ready().call("outputs", RUN_TIMEOUT_S, job=job.to_json(), path=str(path))
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
            timeout_s = RUN_TIMEOUT_S + policy.max_time_s + job.elements / _ELEMENTS_PER_S
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
            f"GPU {self._number} ({self.device}) no longer works: {why[:200]}; before: {failed[:200]}",
            "what was measured is kept; look at the GPU with nvidia-smi, then run the same command again",
        )

    def _retire(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _ready(self) -> Child:
        if self._child is not None and (not self._child.alive() or self._runs >= self._RUNS_BEFORE_REPLACEMENT):
            self.close()
        if self._child is None:
            self._child = Child(_SERVICE, self._settings)
            self._runs = 0
        return self._child


@contextlib.contextmanager
def locked(bus_id: str) -> Iterator[None]:
    """Holds a GPU's lock: of all tuners on this machine, whoever runs them, only this one uses it. Waits for the lock,
    which the death of its owner frees. Raises InfrastructureError."""
    path = os.path.join(tempfile.gettempdir(), f"tuner-gpu-{re.sub('[^0-9A-Za-z]', '-', bus_id)}.lock")
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InfrastructureError(f"{path}: cannot be locked: {error.strerror}", "remove it, or set TMPDIR") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
