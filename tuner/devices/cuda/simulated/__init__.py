"""A simulated GPU: kernels are compiled for the host, run there thread by thread, and timed by an estimate.

It is never taken by itself: a run file names it, `target: simulated_cuda`. What it runs is right or wrong as on a GPU;
its times say nothing of one, and say so wherever they stand (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import environment
from tuner.devices.cuda import CudaKind

if TYPE_CHECKING:
    from tuner.caveats import Caveats
    from tuner.config import RunConfig
    from tuner.devices.device import Assembly, BundleBench, Device, Opening
    from tuner.devices.finding import Finding
    from tuner.devices.target import ResolvedTarget
    from tuner.protocols import Builder

CODEGEN = "tuner.devices.cuda.simulated.codegen:compile"


class SimulatedCudaKind(CudaKind):
    """Implements `DeviceKind`: a CUDA target whose model is "simulated"."""

    name = "simulated_cuda"

    def is_here(self) -> bool:
        from tuner.devices.cuda.simulated import target

        return not target.missing_here()

    def is_automatic(self) -> bool:
        return False

    def devices(self) -> Sequence[str]:
        from tuner.devices.cuda.simulated import target

        return (target.LABEL,) if self.is_here() else ()

    def local(self, threads: int) -> ResolvedTarget:
        from tuner.devices.cuda.simulated import target

        return target.local(threads)

    def completed(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        from tuner.devices.cuda.simulated import target

        return target.completed(spec)

    def from_attributes(self, spec: Mapping[str, Any], wanted_threads: int | None, to_run: bool) -> ResolvedTarget:
        from tuner.devices.cuda.simulated import target

        return target.from_attributes(spec, wanted_threads, to_run)

    def caveats(self, device: str) -> Caveats:
        from tuner.devices.cuda.simulated import target

        return target.CAVEATS

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        """No GPU shares it, and none learns from its records: they are estimates."""
        return environment.apart(super().scope(target, device, threads, mode))

    def require_compiler(self) -> None:
        from tuner.devices.cuda.simulated import target

        target.require(pycuda=False)

    def builder(self, target: str, folder: Path, workers: int, timeout_s: float) -> Builder:
        from tuner.devices.builder import LocalBuilder

        return LocalBuilder(target, CODEGEN, folder, workers, timeout_s)

    def assembly(self, target: ResolvedTarget) -> Assembly:
        from tuner.devices.cuda.simulated.assembly import SimulatedAssembly

        return SimulatedAssembly(target)

    def open(self, opening: Opening) -> Device:
        from tuner.devices.cuda.simulated.device import SimulatedCuda

        return SimulatedCuda(opening, self)

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[BundleBench]:
        from tuner.devices.cuda.bench import open_gpus
        from tuner.devices.cuda.simulated.bench import SimulatedBench

        return open_gpus(numbers, arch, mode, SimulatedBench)

    def findings(self, config: RunConfig) -> Iterator[Finding]:
        from tuner.devices.cuda.simulated.findings import findings

        return findings(config)


SIMULATED_CUDA = SimulatedCudaKind()
