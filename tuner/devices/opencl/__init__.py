"""OpenCL devices: GPUs of any maker, and CPUs through PoCL, whose times are a CPU's and say so.

Compiling needs no device, and measuring a bundle needs no TVM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import environment
from tuner.errors import TargetError
from tuner.precisions import FLOAT16

if TYPE_CHECKING:
    from kernels.passes import Applied
    from tuner.caveats import Caveats
    from tuner.config import RunConfig
    from tuner.devices.device import Assembly, BundleBench, Device, Listing, Opening
    from tuner.devices.finding import Finding
    from tuner.devices.target import ResolvedTarget
    from tuner.protocols import Array, Builder, Task

CODEGEN = "tuner.devices.opencl.codegen:compile"


class OpenclKind:
    """Implements `DeviceKind`."""

    name = tvm_kind = "opencl"
    selectors = ("platform", "device")
    modes = ("hot", "cold")
    bundles = True
    data_bytes = "uint8"
    place = "on a host with such a device"

    def is_here(self) -> bool:
        from tuner.devices.opencl import target

        return not isinstance(target.find_devices(environment.usable_threads()), str)

    def is_automatic(self) -> bool:
        from tuner.devices.opencl import target

        return target.is_gpu_here(environment.usable_threads())

    def devices(self) -> Sequence[str]:
        from tuner.devices.opencl import target

        found = target.find_devices(environment.usable_threads())
        return () if isinstance(found, str) else tuple(facts.label for facts in found)

    def local(self, threads: int) -> ResolvedTarget:
        from tuner.devices.opencl import target

        return target.local(threads)

    def completed(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        from tuner.devices.opencl import target

        return target.completed(spec, environment.usable_threads())

    def from_attributes(self, spec: Mapping[str, Any], wanted_threads: int | None, to_run: bool) -> ResolvedTarget:
        from tuner.devices.opencl import target

        return target.from_attributes(spec, wanted_threads, to_run)

    def caveats(self, device: str) -> Caveats:
        from tuner.devices.opencl import facts

        return facts.caveats(device)

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        """A device that is a CPU has its name and its threads in `device`, so that no GPU shares its scope, and none
        learns from its records."""
        scope = environment.gpu_scope_key(self.name, target, device, mode)
        return environment.apart(scope) if self.caveats(device).sentences else scope

    def layout(self, lanes: int) -> str:
        return "NCHW"

    def why_not(self, precision: str, target: ResolvedTarget) -> str:
        """Where the device is not here, nothing is known of its extensions."""
        from tuner.devices.opencl.target import device_of

        if precision != FLOAT16:
            return f"{precision}: OpenCL C has no products in it that are faster than in float32"
        facts = device_of(target.text, environment.usable_threads())
        missing = "" if facts is None else facts.missing_for(precision)
        return f"float16 needs the extension {missing}, which this device has not" if missing else ""

    def require_compiler(self) -> None:
        """None is needed: a driver compiles."""

    def require_arithmetic(self, target: ResolvedTarget, tasks: Sequence[Task]) -> None:
        """Where the device is not here, nothing is known of its extensions."""
        from tuner.devices.opencl.target import device_of

        facts = device_of(target.text, environment.usable_threads())
        if facts is None:
            return
        for task in tasks:
            for dtype in dict.fromkeys(spec.dtype for spec in task.workload.args):
                if missing := facts.missing_for(dtype):
                    raise TargetError(
                        f"{task.name}: {dtype} needs the extension {missing}, which {facts.name} has not",
                        f"use a model without {dtype}, or another device",
                    )

    def builder(self, target: str, folder: Path, workers: int, timeout_s: float) -> Builder:
        from tuner.devices.builder import LocalBuilder

        return LocalBuilder(target, CODEGEN, folder, workers, timeout_s)

    def assembly(self, target: ResolvedTarget) -> Assembly:
        from tuner.devices.opencl.assembly import OpenclAssembly

        return OpenclAssembly(target)

    def state_probe(self, threads: int, runs: Path) -> None:
        return None

    def open(self, opening: Opening) -> Device:
        from tuner.devices.opencl.device import Opencl

        return Opencl(opening, self)

    def account(self, library: Path, inputs: Sequence[Array], threads: int, seconds: float) -> Mapping[str, Any] | None:
        return None  # not written: profiling events could tell its calls apart

    def listing(self, applied: Applied, target: ResolvedTarget, artifact: Path) -> Listing:
        from tuner.devices.device import Listing

        return Listing("opencl", artifact.read_text("utf-8"), note="what its driver makes of the source is not known")

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[BundleBench]:
        from tuner.devices.opencl.bench import open_devices

        return open_devices(numbers, arch, mode)

    def findings(self, config: RunConfig) -> Iterator[Finding]:
        from tuner.devices.opencl.findings import findings

        return findings(config)


OPENCL = OpenclKind()
