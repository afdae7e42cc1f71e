"""The benches of CUDA devices: which there are, and which kernels they run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tuner.devices.gpu.bench import OPEN_TIMEOUT_S, GpuBench, Service
from tuner.errors import TargetError
from tuner.process.limits import Limits
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout


def open_gpus(
    numbers: Sequence[int] | None, arch: str, mode: str, kind: type[CudaBench] | None = None
) -> list[CudaBench]:
    """A bench of a kind for each of these GPUs, or for all there are. Raises TargetError, saying what is missing
    here."""
    kind = kind or CudaBench
    present = kind.count()
    wanted = list(range(present)) if numbers is None else list(dict.fromkeys(numbers))
    for number in wanted:
        if number >= present:
            raise TargetError(f"--gpus: no GPU {number}, there are {present}, numbered from 0")
    benches: list[CudaBench] = []
    try:
        for number in wanted:
            bench = kind(number, mode)
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
    architecture = re.fullmatch(r"sm_(\d+)([af]?)", cubin)
    if architecture is None:
        return cubin == gpu
    wanted, letter = architecture.groups()
    present = gpu.removeprefix("sm_")
    if letter:
        return wanted == present
    return wanted[:-1] == present[:-1] and int(wanted[-1]) <= int(present[-1])


def _count(counter: str, install: str) -> int:
    """How many GPUs are here; `install` says what to do where that cannot be told. A child asks the driver: this
    process must stay one that can be forked from."""
    with Child(counter) as child:
        try:
            gpus = int(child.call("count", OPEN_TIMEOUT_S))
        except (ChildTimeout, ChildDied, ChildError) as error:
            raise TargetError(_words(error), install) from error
    if not gpus:
        raise TargetError("measuring on a GPU: missing here: a GPU (the driver sees none)")
    return gpus


def _words(error: Exception) -> str:
    if isinstance(error, ChildError) and error.kind in ("ModuleNotFoundError", "ImportError"):
        return f"measuring on a GPU: missing here: PyCUDA, or the driver it needs ({error})"
    return f"measuring on a GPU: missing here: a working NVIDIA driver ({error})"


class Counter:
    """A child's service."""

    def op_count(self) -> int:
        from tuner.devices.cuda.driver import count

        return count()


class CudaBench(GpuBench):
    """`GpuBench` on the CUDA device of a number. `mode` is hot or cold, `description` what its service says of it.

    `install` and `advice` say what to do where no device can be found, and where one no longer works.
    """

    service = "tuner.devices.cuda.kernel_service:CudaService"
    counter = "tuner.devices.cuda.bench:Counter"
    install = (
        "on this host: pip install pycuda, where a CUDA toolkit is; elsewhere the bundle can be measured with "
        "--runner replay:FILE only"
    )
    advice = "look at the GPU with nvidia-smi"
    limits: Limits | None = None

    def __init__(self, number: int, mode: str) -> None:
        label, settings = f"GPU {number}", {"device": number, "mode": mode}
        # This child ends at once: the next one counts the processes on this GPU by NVML, before it is one of them.
        with Child(self.service, settings) as child:
            try:
                self.description: dict[str, Any] = child.call("describe", OPEN_TIMEOUT_S)
            except (ChildTimeout, ChildDied, ChildError) as error:
                raise TargetError(f"{label} cannot be used: {error}"[:400]) from error
        self.arch = str(self.description["arch"])
        bus_id = str(self.description["bus_id"])
        service = Service(self.service, {**settings, "bus_id": bus_id}, label, self.advice, limits=self.limits)
        super().__init__(service, str(self.description["name"]), bus_id)

    @classmethod
    def count(cls) -> int:
        """How many devices there are. Raises TargetError, saying what is missing here."""
        return _count(cls.counter, cls.install)
