"""This machine's CPU: LLVM compiles, a child with the model's threads measures, objects are linked into the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import environment
from tuner.caveats import OWN, Caveats
from tuner.errors import TargetError

if TYPE_CHECKING:
    from kernels.passes import Applied
    from tuner.config import RunConfig
    from tuner.devices.builder import LocalBuilder
    from tuner.devices.device import Assembly, BundleBench, Device, Listing, Opening
    from tuner.devices.finding import Finding
    from tuner.devices.target import ResolvedTarget
    from tuner.measure.states import StateProbe
    from tuner.protocols import Array, Task

NEEDED: Mapping[str, frozenset[str]] = {
    "bfloat16": frozenset({"avx512bf16", "amx-bf16", "bf16"}),
    "int8": frozenset({"avx512vnni", "avxvnni", "amx-int8", "dotprod", "i8mm"}),
}
"""The instruction sets of which one makes products in a precision faster than in float32, by LLVM's names."""

CODEGEN = "tuner.devices.cpu.codegen:compile"


class CpuKind:
    """Implements `DeviceKind`."""

    name = tvm_kind = "llvm"
    selectors = ()
    modes = ("model", "hot", "cold")
    bundles = False
    data_bytes = "uint8"
    place = "on this host"

    def is_here(self) -> bool:
        return True

    def is_automatic(self) -> bool:
        return True

    def devices(self) -> Sequence[str]:
        return (environment.cpu_model(),)

    def local(self, threads: int) -> ResolvedTarget:
        from tuner.devices.cpu import target

        return target.host_cpu(threads)

    def completed(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return spec

    def from_attributes(self, spec: Mapping[str, Any], wanted_threads: int | None, to_run: bool) -> ResolvedTarget:
        from tuner.devices.cpu import target

        return target.from_attributes(spec, wanted_threads)

    def caveats(self, device: str) -> Caveats:
        return OWN

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        return environment.scope_key(target, threads, mode)

    def layout(self, lanes: int) -> str:
        from tuner.graph import preferred_layout

        return preferred_layout(lanes)

    def why_not(self, precision: str, target: ResolvedTarget) -> str:
        if precision not in NEEDED:
            return f"products in {precision} are for GPUs: CPUs have no instructions that make them fast"
        if NEEDED[precision] & set(target.features):
            return ""
        wanted = " or ".join(sorted(NEEDED[precision]))
        return f"this CPU has no instructions for products in {precision} ({wanted}); float32 is faster on it"

    def require_compiler(self) -> None:
        """TVM compiles; the linker is missed when it is called."""

    def require_arithmetic(self, target: ResolvedTarget, tasks: Sequence[Task]) -> None:
        """What a CPU has no instructions for, LLVM writes with others."""

    def builder(self, target: str, folder: Path, workers: int, timeout_s: float) -> LocalBuilder:
        from tuner.devices.builder import LocalBuilder

        return LocalBuilder(target, CODEGEN, folder, workers, timeout_s)

    def assembly(self, target: ResolvedTarget) -> Assembly:
        from tuner.devices.cpu.assembly import CpuAssembly

        return CpuAssembly(target)

    def state_probe(self, threads: int, runs: Path) -> StateProbe | None:
        from tuner.devices.cpu.round_trip import open_probe

        return open_probe(threads, runs)

    def open(self, opening: Opening) -> Device:
        from tuner.devices.cpu.device import Cpu

        measure, kernels = opening.measure, opening.work / "kernels"
        builder = self.builder(opening.target.text, kernels, opening.workers, measure.build_timeout_s)
        return Cpu(opening, self, builder)

    def account(self, library: Path, inputs: Sequence[Array], threads: int, seconds: float) -> Mapping[str, Any] | None:
        from tuner.devices.cpu import account

        return account.take(library, inputs, threads, seconds)

    def listing(self, applied: Applied, target: ResolvedTarget, artifact: Path) -> Listing:
        from kernels.assembly import assembly, hot_loop
        from tuner.devices.device import Listing

        code = assembly(applied, json.loads(target.text))
        return Listing("asm", code, hot_loop(code))

    def benches(self, numbers: Sequence[int] | None, arch: str, mode: str) -> Sequence[BundleBench]:
        raise TargetError("a bundle for a CPU: bundles hold kernels for GPUs", "`tuner run` measures on this CPU")

    def findings(self, config: RunConfig) -> Iterator[Finding]:
        return iter(())


CPU = CpuKind()
