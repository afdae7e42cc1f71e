"""The benches of OpenCL devices."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner import environment
from tuner.devices.gpu.bench import OPEN_TIMEOUT_S, GpuBench, Service
from tuner.devices.opencl.children import child_env, confined
from tuner.devices.opencl.facts import Facts
from tuner.devices.opencl.target import INSTALL, KIND, find_devices
from tuner.errors import TargetError
from tuner.process.worker import ChildDied, ChildError, ChildTimeout

_CEILINGS_TIMEOUT_S = 120.0


def open_devices(numbers: Sequence[int] | None, arch: str, mode: str) -> list[OpenclBench]:
    """A bench for each of these devices, or for all there are: GPUs, or CPUs where there is no GPU. Raises TargetError,
    saying what is missing here."""
    threads = environment.usable_threads()
    if arch != KIND:
        raise TargetError(f"a bundle for OpenCL whose kernels are for {arch}", "make the bundle again")
    found = find_devices(threads)
    if isinstance(found, str):
        raise TargetError(f"measuring with OpenCL: missing here: {found}", INSTALL)
    by_number = {facts.number: facts for facts in found}
    gpus = [facts.number for facts in found if not facts.is_cpu]
    wanted = (gpus or list(by_number)[:1]) if numbers is None else list(dict.fromkeys(numbers))
    for number in wanted:
        if number not in by_number:
            raise TargetError(f"--gpus: no OpenCL device {number}, there are {len(found)}, numbered from 0")
    benches: list[OpenclBench] = []
    try:
        for number in wanted:
            benches.append(OpenclBench(by_number[number], mode, threads))
    except TargetError:
        for bench in benches:
            bench.close()
        raise
    return benches


class OpenclBench(GpuBench):
    """`GpuBench` on one device. What PoCL compiles goes to `scratch`, or to a folder of the bench's own.

    `description` is what its service says of it. Raises TargetError where the device cannot be used.
    """

    def __init__(
        self, facts: Facts, mode: str, threads: int, scratch: Path | None = None, run_timeout_s: float | None = None
    ) -> None:
        self.facts, self.mode = facts, mode
        self._own = Path(tempfile.mkdtemp(prefix="tuner-opencl-")) if scratch is None else None
        service = Service(
            "tuner.devices.opencl.kernel_service:OpenclService", {"device": facts.number, "mode": mode},
            f"OpenCL device {facts.number}", "look whether its driver is still installed, and the device there",
            child_env(threads, scratch or self._own or Path()), confined(),
        )  # fmt: skip
        super().__init__(service, facts.label, f"opencl-{facts.model}-{facts.number}", run_timeout_s)
        try:
            self.description: dict[str, Any] = self._ready().call("describe", OPEN_TIMEOUT_S)
        except (ChildTimeout, ChildDied, ChildError) as error:
            self.close()
            raise TargetError(f"{service.label} ({facts.name}) cannot be used: {error}"[:400], INSTALL) from error

    def ceilings(self) -> Mapping[str, Any]:
        """What the device can do at most. Raises TargetError."""
        try:
            return dict(self._ready().call("ceilings", _CEILINGS_TIMEOUT_S))
        except (ChildTimeout, ChildDied, ChildError) as error:
            raise TargetError(f"{self.device}: its ceilings cannot be measured: {error}"[:400], INSTALL) from error

    def close(self) -> None:
        super().close()
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
