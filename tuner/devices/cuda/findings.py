"""The GPU, its driver, nvcc, NVRTC and PyCUDA."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tuner.config import RunConfig
from tuner.devices.cuda.target import CudaDevice, find_gpu
from tuner.devices.finding import Finding, Findings, State


def findings(config: RunConfig) -> Findings:
    """The GPU and its driver, nvcc, NVRTC and PyCUDA; broken where the run file wants them."""
    spec = config.target.spec
    wanted = spec == "cuda" or (not isinstance(spec, str) and spec.get("kind") == "cuda")
    gpu = find_gpu()
    present = isinstance(gpu, CudaDevice)
    lacking = State.BROKEN if wanted else State.WARNING if present else State.NOTE
    advice = "needed for `target: cuda` only"
    if isinstance(gpu, CudaDevice):
        yield Finding("cuda", State.OK, f"{gpu.name}, {gpu.arch}, driver {_driver_version()}")
    else:
        yield Finding("cuda", lacking, f"missing: {gpu}", f"install the NVIDIA driver; {advice}")
    nvcc = _nvcc_version()
    yield (
        Finding("cuda", State.OK, f"nvcc {nvcc}")
        if nvcc
        else Finding("cuda", lacking, "missing: nvcc, or it does not work",
                     f"install the CUDA toolkit and put its bin folder on the PATH; {advice}")
    )  # fmt: skip
    nvrtc = _nvrtc_version()
    yield (
        Finding("cuda", State.OK, f"NVRTC {nvrtc}")
        if nvrtc
        else Finding("cuda", lacking, "missing: NVRTC (libnvrtc)", f"it comes with the CUDA toolkit; {advice}")
    )
    yield _pycuda(lacking, advice)


def _driver_version() -> str:
    version = ctypes.c_int()
    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    return f"for CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _nvcc_version() -> str:
    """The release that nvcc states, or "" when there is none that works."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return ""
    try:
        output = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(r"release (\d+\.\d+)", output)
    return match[1] if match else ""


def _nvrtc_version() -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvcc = shutil.which("nvcc")
    beside = [] if nvcc is None else [str(Path(nvcc).resolve().parents[1] / "lib64" / "libnvrtc.so")]
    for name in ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", *beside):
        with contextlib.suppress(OSError):
            if ctypes.CDLL(name).nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) == 0:
                return f"{major.value}.{minor.value}"
    return ""


def _pycuda(lacking: State, advice: str) -> Finding:
    if importlib.util.find_spec("pycuda") is None:
        return Finding("cuda", lacking, "missing: PyCUDA", f"pip install -e '.[cuda]'; {advice}")
    script = "import pycuda.driver as d; print('.'.join(map(str, d.get_version())))"
    try:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return Finding("cuda", lacking, "PyCUDA is still being imported after 60 s", "see whether the driver hangs")
    if done.returncode == 0:
        return Finding("cuda", State.OK, f"PyCUDA, built for CUDA {done.stdout.strip()}")
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if "libcuda.so" in last:
        return Finding("cuda", lacking, "PyCUDA is installed, and loads where an NVIDIA driver is",
                       f"install the NVIDIA driver; {advice}")  # fmt: skip
    return Finding("cuda", lacking, f"PyCUDA cannot be imported: {last[:200]}",
                   "build it again for this toolkit: pip install --force-reinstall --no-cache-dir pycuda")  # fmt: skip
