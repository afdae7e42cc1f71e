"""NVIDIA GPUs: nvcc or NVRTC compiles, PyCUDA measures, the model is one CUDA graph.

Compiling needs no GPU, and measuring a bundle needs no TVM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import environment
from tuner.caveats import OWN, Caveats
from tuner.errors import MissingDevice

if TYPE_CHECKING:
    from kernels.passes import Applied
    from tuner.config import RunConfig
    from tuner.devices.device import Assembly, BundleBench, Device, Listing, Opening
    from tuner.devices.finding import Finding
    from tuner.devices.target import ResolvedTarget
    from tuner.protocols import Array, Builder, Task

CODEGEN = "tuner.devices.cuda.codegen:compile"


class CudaKind:
    """Implements `DeviceKind`."""

    name = tvm_kind = "cuda"
    selectors = ()
    modes = ("hot", "cold")
    bundles = True
    data_bytes = "int8"  # tensor cores multiply bytes of one type
    place = "on a host with such a GPU"

    def is_here(self) -> bool:
        from tuner.devices.cuda import target

        return not target.missing_here()

    def is_automatic(self) -> bool:
        return self.is_here()

    def devices(self) -> Sequence[str]:
        from tuner.devices.cuda import target

        gpu = target.find_gpu()
        return () if isinstance(gpu, str) else (f"{gpu.name}, {gpu.arch}",)

    def local(self, threads: int) -> ResolvedTarget:
        from tuner.devices.cuda import target

        return target.local_gpu(threads)

    def completed(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        from tuner.devices.cuda import target

        return target.completed(spec)

    def from_attributes(self, spec: Mapping[str, Any], wanted_threads: int | None, to_run: bool) -> ResolvedTarget:
        from tuner.devices.cuda import target

        return target.from_attributes(spec, wanted_threads, to_run)

    def caveats(self, device: str) -> Caveats:
        return OWN

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        """Wherever its kernels were compiled: the CPU and its threads are no part of it."""
        return environment.gpu_scope_key(self.name, target, device, mode)

    def layout(self, lanes: int) -> str:
        return "NCHW"

    def why_not(self, precision: str, target: ResolvedTarget) -> str:
        from tuner.devices.cuda import target as targets

        return targets.why_not(precision, target)

    def require_compiler(self) -> None:
        from kernels import nvrtc
        from kernels.cubin import MissingCompiler, find_nvcc

        if nvrtc.library() is not None:
            return
        try:
            find_nvcc()
        except MissingCompiler as error:
            raise MissingDevice("target cuda: missing here: a CUDA compiler", str(error)) from error

    def require_arithmetic(self, target: ResolvedTarget, tasks: Sequence[Task]) -> None:
        """Every GPU has what models compute in."""

    def builder(self, target: str, folder: Path, workers: int, timeout_s: float) -> Builder:
        from tuner.devices.builder import LocalBuilder

        return LocalBuilder(target, CODEGEN, folder, workers, timeout_s)

    def assembly(self, target: ResolvedTarget) -> Assembly:
        from tuner.devices.cuda.assembly import CudaAssembly

        return CudaAssembly(target)

    def state_probe(self, threads: int, runs: Path) -> None:
        return None

    def open(self, opening: Opening) -> Device:
        from tuner.devices.cuda.device import Cuda

        return Cuda(opening, self)

    def account(self, library: Path, inputs: Sequence[Array], threads: int, seconds: float) -> Mapping[str, Any] | None:
        return None  # its kernels are one CUDA graph

    def listing(self, applied: Applied, target: ResolvedTarget, artifact: Path) -> Listing:
        from tuner.devices.cuda.codegen import machine_code
        from tuner.devices.device import Listing

        code, note = machine_code(artifact)
        return Listing("sass", code, note=note)

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[BundleBench]:
        from tuner.devices.cuda.bench import open_gpus

        return open_gpus(numbers, arch, mode)

    def findings(self, config: RunConfig) -> Iterator[Finding]:
        from tuner.devices.cuda.findings import findings

        return findings(config)


CUDA = CudaKind()
