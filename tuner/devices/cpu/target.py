"""This machine's CPU as a TVM target. TVM is imported when a target is resolved, not before."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from tuner.devices.target import INSTEAD, ResolvedTarget, canonical, threads_of
from tuner.environment import cpu_flags, cpu_model
from tuner.errors import MissingDevice, TargetError
from tuner.schema import did_you_mean

KIND = "llvm"

LINUX_FLAGS = {
    "avx": "avx", "f16c": "f16c", "fma": "fma", "bmi": "bmi1", "bmi2": "bmi2", "avx2": "avx2", "avxvnni": "avx_vnni",
    "avx512f": "avx512f", "avx512cd": "avx512cd", "avx512bw": "avx512bw", "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2", "avx512vnni": "avx512_vnni",
    "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq", "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16", "amx-tile": "amx_tile", "amx-int8": "amx_int8", "amx-bf16": "amx_bf16",
}  # fmt: skip
"""x86 instruction sets that numerical code uses: LLVM's name -> Linux's."""


def host_cpu(threads: int) -> ResolvedTarget:
    """This machine's CPU, with so many threads."""
    from tvm.target import codegen

    mcpu = str(codegen.llvm_get_system_cpu())
    spec: dict[str, Any] = {"kind": KIND, "mcpu": mcpu, "num-cores": threads}
    if masked := masked_features(spec):
        spec["mattr"] = masked
    return ResolvedTarget(KIND, canonical(spec), threads, cpu_model(), features_of(spec))


def masked_features(spec: Mapping[str, Any]) -> list[str]:
    """The features, each as `-name`, that LLVM expects of such a CPU and this one lacks: a hypervisor may hide some."""
    flags = cpu_flags()
    return [f"-{name}" for name in features_of(spec) if name in LINUX_FLAGS and LINUX_FLAGS[name] not in flags]


def features_of(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The instruction sets that code for this target may use; of x86 only those in LINUX_FLAGS."""
    from tvm.target import Target, codegen

    names = {str(name) for name in codegen.llvm_get_cpu_features(Target(dict(spec)))}
    return tuple(sorted(names & LINUX_FLAGS.keys() or names))


def from_attributes(spec: Mapping[str, Any], wanted: int | None) -> ResolvedTarget:
    """The target that a run file writes out; `wanted` are the threads that it asks for. Raises TargetError."""
    cores = spec.get("num-cores")
    if cores is not None and wanted not in (None, cores):
        raise TargetError(f"target.spec.num-cores: {cores}, but target.threads is {wanted}", "leave one of them out")
    threads = threads_of(wanted) if cores is None else threads_of(cores, "target.spec.num-cores")
    full = {**spec, "num-cores": threads}
    _check_cpu(full)
    return ResolvedTarget(KIND, canonical(full), threads, cpu_model(), features_of(full))


def _check_cpu(spec: Mapping[str, Any]) -> None:
    """Raises TargetError for a CPU that LLVM does not know, or of another family than this machine's."""
    from tvm.target import Target, codegen

    here = str(codegen.llvm_get_system_triple())
    triple = str(spec.get("mtriple", here))
    if triple.split("-")[0] != here.split("-")[0]:
        raise MissingDevice(f"target.spec.mtriple: {triple} cannot run on this {platform.machine()} machine", INSTEAD)
    known = [str(name) for name in codegen.llvm_get_cpu_archlist(Target({"kind": KIND, "mtriple": triple}))]
    mcpu = spec.get("mcpu")
    if mcpu is not None and known and mcpu not in known:
        hint = did_you_mean(mcpu, known) or f"this machine's is {codegen.llvm_get_system_cpu()}"
        raise TargetError(f"target.spec.mcpu: LLVM knows no CPU {mcpu!r}", hint)
