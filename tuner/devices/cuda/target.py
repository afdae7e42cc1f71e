"""The first CUDA device as a TVM target. The driver itself is asked; no context is made."""

from __future__ import annotations

import ctypes
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernels.gpus import LEAST_SM, sm_number
from tuner.devices.target import INSTEAD, ResolvedTarget, canonical, threads_of
from tuner.errors import MissingDevice
from tuner.precisions import FP8

KIND = "cuda"

ELSEWHERE = (
    "compile here for a GPU elsewhere: name it, e.g. target: {tag: nvidia/nvidia-h100}, then\n"
    "python -m tuner bundle CONFIG -o bundle.tar, and `tuner measure bundle.tar` on the machine that has it\n"
    f"or {INSTEAD}"
)
"""The hint where there is no GPU."""

_LIMITS = {
    "max_threads_per_block": 1, "max_shared_memory_per_block": 8, "thread_warp_size": 10, "registers_per_block": 12,
    "l2_cache_size_bytes": 38,
}  # fmt: skip
"""Attribute of a TVM target -> its number in the CUDA driver's CUdevice_attribute."""

_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class CudaDevice:
    """A device as its driver states it: `arch` is `sm_XY`, `limits` are those of a schedule, as TVM calls them."""

    name: str
    arch: str
    limits: Mapping[str, int]


def missing_here() -> list[str]:
    """What a CUDA run lacks on this machine; empty when there is nothing."""
    gpu = find_gpu()
    missing = [] if isinstance(gpu, CudaDevice) else [gpu]
    if importlib.util.find_spec("pycuda") is None:
        missing.append("the package PyCUDA (pip install '.[cuda]')")
    return missing


def find_gpu() -> CudaDevice | str:
    """The first CUDA device, or what is missing, in words. Asks the driver itself; creates no context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "an NVIDIA driver (libcuda.so.1 cannot be loaded)"
    if hasattr(driver, "simt_reset"):
        return "an NVIDIA driver (this process has loaded the simulated one)"
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if (code := driver.cuInit(0)) != 0:
        return f"a working NVIDIA driver (cuInit returns error {code})"
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value < 1:
        return "a GPU (the driver sees none)"
    if driver.cuDeviceGet(ctypes.byref(device), 0) != 0 or driver.cuDeviceGetName(name, len(name), device) != 0:
        return "a usable GPU (the driver cannot open the first one)"

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(value), number, device) != 0:
            raise MissingDevice(f"the CUDA driver does not tell attribute {number} of its first device", INSTEAD)
        return value.value

    major = attribute(_MAJOR)
    arch = f"sm_{major}{attribute(_MINOR)}{'a' if major >= 9 else ''}"  # `a`: of this generation alone
    return CudaDevice(name.value.decode(errors="replace"), arch, {key: attribute(n) for key, n in _LIMITS.items()})


def local_gpu(threads: int) -> ResolvedTarget:
    """The first GPU of this machine. Raises MissingDevice, saying what is missing."""
    gpu = find_gpu()
    if (missing := missing_here()) or isinstance(gpu, str):
        raise MissingDevice(f"target {KIND}: missing here: {'; '.join(missing)}", ELSEWHERE)
    spec = {"kind": KIND, "arch": gpu.arch, **gpu.limits, "max_num_threads": gpu.limits["max_threads_per_block"]}
    return ResolvedTarget(KIND, canonical(spec), threads, gpu.name, (gpu.arch,))


def completed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run file's attributes with the architecture of the GPU here: TVM would take sm_50, which no current toolkit
    knows. Raises MissingDevice where there is no GPU to ask."""
    if "arch" in spec:
        return spec
    gpu = find_gpu()
    if isinstance(gpu, str):
        raise MissingDevice("target.spec.arch: missing, and there is no GPU here to ask", "write e.g. arch: sm_90a")
    return {**spec, "arch": gpu.arch}


def from_attributes(spec: Mapping[str, Any], wanted: int | None, to_run: bool) -> ResolvedTarget:
    """The target that a run file writes out. With `to_run` False it is accepted without a GPU. Raises MissingDevice."""
    if to_run and (missing := missing_here()):
        raise MissingDevice(f"target.spec: missing here to run on CUDA: {'; '.join(missing)}", ELSEWHERE)
    gpu = find_gpu()
    device = gpu.name if isinstance(gpu, CudaDevice) else "no GPU here (compiling only)"
    return ResolvedTarget(KIND, canonical(spec), threads_of(wanted), device, (str(spec["arch"]),))


def why_not(precision: str, target: ResolvedTarget) -> str:
    """Why the tensor cores of a target's architecture cannot multiply in a precision; "" where they can."""
    arch = str(json.loads(target.text)["arch"])
    least = LEAST_SM[precision]
    if sm_number(arch) < least:
        has = [name for name in ("float16", "bfloat16", "int8") if sm_number(arch) >= LEAST_SM[name]]
        instead = f"; it has {' and '.join(has)}" if has else ""
        return f"tensor cores multiply in {precision} from sm_{least} on, and this is {arch}{instead}"
    if precision == FP8:
        return "fp8: the kernels made here have no tiles for it on tensor cores; float16 is the nearest that they have"
    return ""
