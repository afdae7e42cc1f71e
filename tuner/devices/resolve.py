"""From the configured target to the one that is tuned for: what is here, described as TVM wants it.

Only finds out; nothing is started. TVM is imported when a target is resolved, not before.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuner.config import TargetConfig
from tuner.environment import cpu_flags, cpu_model, usable_threads
from tuner.errors import TargetError
from tuner.schema import did_you_mean

INSTEAD = "use `target: llvm` to tune for this machine's CPU"
ELSEWHERE = (
    "compile here for a GPU elsewhere: name it, e.g. target: {tag: nvidia/nvidia-h100}, then\n"
    "python -m tuner bundle CONFIG -o bundle.tar, and `tuner measure bundle.tar` on the machine that has it\n"
    f"or {INSTEAD}"
)
"""What can be done where there is no GPU."""

LINUX_FLAGS = {
    "avx": "avx", "f16c": "f16c", "fma": "fma", "bmi": "bmi1", "bmi2": "bmi2", "avx2": "avx2", "avxvnni": "avx_vnni",
    "avx512f": "avx512f", "avx512cd": "avx512cd", "avx512bw": "avx512bw", "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2", "avx512vnni": "avx512_vnni",
    "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq", "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16", "amx-tile": "amx_tile", "amx-int8": "amx_int8", "amx-bf16": "amx_bf16",
}  # fmt: skip
"""x86 instruction sets that code for numbers uses: LLVM's name -> Linux's."""

_CUDA_LIMITS = {
    "max_threads_per_block": 1, "max_shared_memory_per_block": 8, "thread_warp_size": 10, "registers_per_block": 12,
    "l2_cache_size_bytes": 38,
}  # fmt: skip
"""Attribute of a TVM target -> its number in the CUDA driver's CUdevice_attribute."""

_CUDA_MAJOR, _CUDA_MINOR = 75, 76

_REFUSALS = (ValueError, TypeError, RuntimeError)  # what TVM raises for a target it cannot make


@dataclass(frozen=True)
class ResolvedTarget:
    """`text` is the TVM target as canonical JSON; `device` names the hardware; `features` are its instruction sets."""

    kind: Literal["llvm", "cuda"]
    text: str
    threads: int
    device: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gpu:
    """One CUDA device: its name, `sm_XY`, and the limits that a schedule must keep, as TVM calls them."""

    name: str
    arch: str
    limits: Mapping[str, int]


def resolve(target: TargetConfig, to_run: bool = True) -> ResolvedTarget:
    """The target to tune for. Raises TargetError when it is wrong, or when it is not here.

    With `to_run` False a full CUDA target is accepted without a GPU: it can be compiled for, not timed.
    """
    threads = _threads(target.threads)
    if isinstance(target.spec, Mapping):
        return _from_mapping(target.spec, target.threads, to_run)
    if target.spec == "cuda" or (target.spec == "auto" and not cuda_missing()):
        return _local_gpu(threads)
    return _host_cpu(threads)


def cuda_missing() -> list[str]:
    """What a CUDA run lacks on this machine; empty when there is nothing."""
    gpu = find_gpu()
    missing = [] if isinstance(gpu, Gpu) else [gpu]
    if importlib.util.find_spec("pycuda") is None:
        missing.append("the package PyCUDA (pip install '.[cuda]')")
    return missing


def find_gpu() -> Gpu | str:
    """The first CUDA device, or what is missing, in words. Asks the driver itself; creates no context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "an NVIDIA driver (libcuda.so.1 cannot be loaded)"
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if (code := driver.cuInit(0)) != 0:
        return f"a working NVIDIA driver (cuInit answers error {code})"
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value < 1:
        return "a GPU (the driver sees none)"
    if driver.cuDeviceGet(ctypes.byref(device), 0) != 0 or driver.cuDeviceGetName(name, len(name), device) != 0:
        return "a usable GPU (the driver cannot open the first one)"

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(value), number, device) != 0:
            raise TargetError(f"the CUDA driver does not tell attribute {number} of its first device", INSTEAD)
        return value.value

    major = attribute(_CUDA_MAJOR)
    arch = f"sm_{major}{attribute(_CUDA_MINOR)}{'a' if major >= 9 else ''}"  # `a`: with the wgmma generation's own ops
    return Gpu(name.value.decode(errors="replace"), arch, {key: attribute(n) for key, n in _CUDA_LIMITS.items()})


def _local_gpu(threads: int) -> ResolvedTarget:
    gpu = find_gpu()
    if (missing := cuda_missing()) or isinstance(gpu, str):
        raise TargetError(f"target cuda: missing here: {'; '.join(missing)}", ELSEWHERE)
    spec = {"kind": "cuda", "arch": gpu.arch, **gpu.limits, "max_num_threads": gpu.limits["max_threads_per_block"]}
    return ResolvedTarget("cuda", _canonical(spec), threads, gpu.name, (gpu.arch,))


def _host_cpu(threads: int) -> ResolvedTarget:
    from tvm.target import codegen

    mcpu = str(codegen.llvm_get_system_cpu())
    spec: dict[str, Any] = {"kind": "llvm", "mcpu": mcpu, "num-cores": threads}
    if masked := masked_features(spec):
        spec["mattr"] = masked
    return ResolvedTarget("llvm", _canonical(spec), threads, cpu_model(), features_of(spec))


def masked_features(spec: Mapping[str, Any]) -> list[str]:
    """What LLVM expects of a CPU of this name and this one lacks: a hypervisor may hide instruction sets."""
    flags = cpu_flags()
    return [f"-{name}" for name in features_of(spec) if name in LINUX_FLAGS and LINUX_FLAGS[name] not in flags]


def features_of(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The instruction sets that code for this target may use; of x86 only those that numbers need."""
    from tvm.target import Target, codegen

    names = {str(name) for name in codegen.llvm_get_cpu_features(Target(dict(spec)))}
    return tuple(sorted(names & LINUX_FLAGS.keys() or names))


def _from_mapping(spec: Mapping[str, Any], wanted: int | None, to_run: bool) -> ResolvedTarget:
    gpu = find_gpu()
    if spec.get("kind") == "cuda" and "arch" not in spec:  # TVM would take sm_50, which no current toolkit knows
        if isinstance(gpu, str):
            raise TargetError("target.spec.arch: missing, and there is no GPU here to ask", "write e.g. arch: sm_90a")
        spec = {**spec, "arch": gpu.arch}
    full = _validated(spec)
    if full["kind"] == "llvm":
        return _from_llvm(full, wanted)
    if to_run and (missing := cuda_missing()):
        raise TargetError(f"target.spec: missing here to run on CUDA: {'; '.join(missing)}", ELSEWHERE)
    device = gpu.name if isinstance(gpu, Gpu) else "no GPU here (compiling only)"
    return ResolvedTarget("cuda", _canonical(full), _threads(wanted), device, (str(full["arch"]),))


def _from_llvm(spec: Mapping[str, Any], wanted: int | None) -> ResolvedTarget:
    cores = spec.get("num-cores")
    if cores is not None and wanted not in (None, cores):
        raise TargetError(f"target.spec.num-cores: {cores}, but target.threads is {wanted}", "leave one of them out")
    threads = _threads(wanted) if cores is None else _threads(cores, "target.spec.num-cores")
    full = {**spec, "num-cores": threads}
    _check_cpu(full)
    return ResolvedTarget("llvm", _canonical(full), threads, cpu_model(), features_of(full))


def _validated(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping, a tag in it written out. TargetError names the field that TVM refuses."""
    from tvm.target import Target

    try:
        target = Target(dict(spec))
    except _REFUSALS as error:
        raise _blame(spec) or TargetError(f"target.spec: TVM refuses it: {_first_sentence(error)}") from error
    kind = str(target.kind.name)
    if kind not in ("llvm", "cuda"):
        hint = did_you_mean(kind, ("llvm", "cuda"))
        raise TargetError(f"target.spec.kind: expected llvm or cuda, not {kind!r}", hint)
    return dict(json.loads(str(target)) if "tag" in spec else spec)


def _blame(spec: Mapping[str, Any]) -> TargetError | None:
    """TVM is asked again with one field more each time: its first refusal belongs to the field just added."""
    from tvm.target import Target

    so_far: dict[str, Any] = {}
    for key in sorted(spec, key=lambda key: key not in ("tag", "kind")):
        so_far[key] = spec[key]
        try:
            Target(dict(so_far))
        except _REFUSALS as error:
            return TargetError(f"target.spec.{key}: TVM refuses it: {_first_sentence(error)}")
    return None


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split(". ")[0]


def _check_cpu(spec: Mapping[str, Any]) -> None:
    """Raises TargetError for a CPU that LLVM does not know, or of another family than this machine's."""
    from tvm.target import Target, codegen

    here = str(codegen.llvm_get_system_triple())
    triple = str(spec.get("mtriple", here))
    if triple.split("-")[0] != here.split("-")[0]:
        raise TargetError(f"target.spec.mtriple: {triple} cannot run on this {platform.machine()} machine", INSTEAD)
    known = [str(name) for name in codegen.llvm_get_cpu_archlist(Target({"kind": "llvm", "mtriple": triple}))]
    mcpu = spec.get("mcpu")
    if mcpu is not None and known and mcpu not in known:
        hint = did_you_mean(mcpu, known) or f"this machine's is {codegen.llvm_get_system_cpu()}"
        raise TargetError(f"target.spec.mcpu: LLVM knows no CPU {mcpu!r}", hint)


def _threads(wanted: int | None, where: str = "target.threads") -> int:
    usable = usable_threads()
    if wanted is not None and not 1 <= wanted <= usable:
        message = f"{where}: {wanted}, but this process may use {usable} core(s)"
        raise TargetError(message, "leave it out to use them all")
    return wanted or usable


def _canonical(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))
