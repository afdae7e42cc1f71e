"""`python -m tuner.devices.cuda.simulated.setup`: build PyCUDA where there is no GPU, for the simulated one.

It is built against the simulated driver, without curand, once: the wheel is kept. Where it cannot be built this says
why and ends well: what needs it is skipped then. A host with a driver of NVIDIA's installs the extra `cuda` instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.target import pycuda_problem

_NAME = "pycuda"
_CONSTRAINTS = Path(__file__).resolve().parents[4] / "constraints.txt"
_HEADER_WHEELS = ("nvidia-cuda-runtime==13.5.37", "nvidia-cuda-crt==13.5.37")
"""Pinned here, not in constraints.txt: the CUDA builds of torch require versions of their own."""

_TIMEOUT_S = 900.0

_PROFILER = """#pragma once
#include <cuda.h>
typedef enum { CU_OUT_KEY_VALUE_PAIR, CU_OUT_CSV } CUoutput_mode;
extern "C" {
CUresult cuProfilerInitialize(const char*, const char*, CUoutput_mode);
CUresult cuProfilerStart(void);
CUresult cuProfilerStop(void);
}
"""
"""`cudaProfiler.h`, which NVIDIA's wheels of headers lack and PyCUDA includes."""


class _CannotBuild(Exception):
    """Why PyCUDA is not built here, in words."""


def set_up() -> str:
    """Build and install what the simulated GPU needs; a sentence that says what was done, or why nothing was."""
    installed = importlib.util.find_spec(_NAME) is not None
    if _has_driver() and installed:
        return _described("PyCUDA is installed")
    if _has_driver():
        return "the simulated GPU is not set up: this host has an NVIDIA driver; pip install -e '.[cuda]'"
    try:
        native.compiler()
        _require_headers()
        native.folder.cache_clear()
        if installed and not pycuda_problem():
            return _described("PyCUDA is installed")
        wheel = str(_wheel(native.folder()))
        _run(_pip("install", "--constraint", str(_CONSTRAINTS), wheel))
        if installed:  # and broken: its own files may be, or what it needs
            _run(_pip("install", "--force-reinstall", "--no-deps", wheel))
    except (_CannotBuild, native.Unavailable) as error:
        return f"the simulated GPU is not set up, and its tests are skipped; missing: {error}"
    pycuda_problem.cache_clear()
    if problem := pycuda_problem():
        return f"the simulated GPU is not set up, and its tests are skipped; missing: {problem}"
    return _described("PyCUDA was built for the simulated GPU")


def _described(done: str) -> str:
    try:
        return f"{done}; the simulated driver is in {native.folder()}"
    except native.Unavailable as error:
        return f"{done}; the simulated GPU lacks {error}"


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _require_headers() -> None:
    """CUDA's headers: the toolkit's, else NVIDIA's wheels of them, which are installed here."""
    try:
        native.headers()
    except native.Unavailable:
        _run(_pip("install", "--no-deps", *_HEADER_WHEELS))
        native.headers()


def _wheel(libraries: Path) -> Path:
    """PyCUDA's wheel for this Python and these headers, from the cache or built."""
    key = hashlib.sha256(f"{_pinned()} {sys.version} {native.headers()}".encode()).hexdigest()[:16]
    kept = native.home() / f"pycuda-{key}"
    if not (found := sorted(kept.glob("*.whl"))):
        with tempfile.TemporaryDirectory(prefix="tuner-pycuda-") as scratch:
            built = _built(Path(scratch), libraries)
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(built, kept / f"{built.name}.part")
            os.replace(kept / f"{built.name}.part", kept / built.name)
        found = sorted(kept.glob("*.whl"))
    return found[0]


def _pinned() -> str:
    """The requirement of constraints.txt."""
    for line in _CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line.lower().startswith(f"{_NAME}=="):
            return line.strip()
    raise _CannotBuild(f"a line for PyCUDA in {_CONSTRAINTS}")


def _built(scratch: Path, libraries: Path) -> Path:
    _run(_pip("download", "--no-deps", "--no-binary", _NAME, "--dest", str(scratch), _pinned()))
    [archive] = scratch.glob("pycuda-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, filter="data")
    [source] = (path for path in scratch.glob("pycuda-*") if path.is_dir())
    link = source / "libraries"
    link.mkdir()
    (link / "libcuda.so").symlink_to(libraries / native.DRIVER)
    (link / "cudaProfiler.h").write_text(_PROFILER)
    include = native.headers()
    own = [] if (include / "cudaProfiler.h").exists() else [str(link)]
    (source / "siteconf.py").write_text(
        f"CUDA_ENABLE_CURAND = False\nCUDA_ROOT = {str(include.parent)!r}\nCUDA_INC_DIR = {[str(include), *own]!r}\n"
        f"CUDADRV_LIB_DIR = {[str(link)]!r}\nCXXFLAGS = ['-O1']\nLDFLAGS = []\n"
    )
    _run(_pip("wheel", "--no-deps", "--wheel-dir", str(scratch), str(source)))
    [wheel] = scratch.glob("*.whl")
    return wheel


def _pip(*arguments: str) -> list[str]:
    command, *rest = arguments
    return [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *rest]


def _run(command: list[str]) -> None:
    """Run pip. What it installs for itself to build with keeps to the constraints, too."""
    environment = {**os.environ, "PIP_CONSTRAINT": str(_CONSTRAINTS)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise _CannotBuild(f"time: {command[3]} did not end within {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _CannotBuild(f"PyCUDA, which pip cannot {command[3]}: {last[:300]}")


if __name__ == "__main__":
    sys.stdout.write(f"{set_up()}\n")
