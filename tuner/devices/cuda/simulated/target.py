"""The simulated GPU as a TVM target, and what it needs of this machine."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tuner.caveats import Caveat, Caveats
from tuner.devices.cuda.simulated import native
from tuner.devices.target import INSTEAD, ResolvedTarget, canonical, threads_of
from tuner.errors import MissingDevice, TargetError
from tuner.export.manifest import SIMULATED

KIND = SIMULATED
MODEL = "simulated"
"""The `model` of its TVM targets, by which they are told from those of a GPU."""

ARCH = "simulated"
"""What its kernels are for: no GPU loads them."""

LABEL = "Simulated GPU: its times are estimates"
"""What the simulated driver calls it."""

CAVEATS = Caveats(
    kernel=Caveat(
        "estimate",
        "No GPU was used: every time of a kernel is an estimate of the analytical model, not a measurement.",
        "the analytical model knows whole schedules alone",
    ),
    model=Caveat(
        "host's time",
        "Every time of a whole model is that of the host which simulates the GPU, and says nothing of one.",
    ),
)
"""What its times are."""

_COMPILED_AS = "sm_90a"
_LIMITS = {
    "max_threads_per_block": 1024, "max_num_threads": 1024, "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32, "registers_per_block": 65536, "l2_cache_size_bytes": 1 << 20,
}  # fmt: skip

INSTALL = "`make setup` builds what is missing where a C++ compiler and CUDA's headers are"

_IMPORT_S = 60.0
_IMPORT = "import ctypes, sys; ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL); import pycuda.driver as d; d.init()"


def missing_here(pycuda: bool = True) -> list[str]:
    """What the simulated GPU lacks on this machine; empty when there is nothing. `pycuda`: with what runs kernels,
    which is tried where the driver is built already."""
    missing = []
    for part in (native.compiler, native.headers):
        try:
            part()
        except native.Unavailable as error:
            missing.append(str(error))
    if pycuda and importlib.util.find_spec("pycuda") is None:
        missing.append("the package PyCUDA")
    elif pycuda and not missing and native.is_built() and (problem := pycuda_problem()):
        missing.append(problem)
    return missing


@functools.cache
def pycuda_problem() -> str:
    """Why PyCUDA, which is installed, cannot be used with the simulated driver; "" where it can. A child tries it.

    Raises native.Unavailable where that driver cannot be built.
    """
    command = [sys.executable, "-c", _IMPORT, str(native.folder() / native.DRIVER)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_IMPORT_S)
    except subprocess.TimeoutExpired:
        return f"PyCUDA, which is still being imported after {_IMPORT_S:.0f} s"
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"PyCUDA that can be imported ({last[:200]})" if done.returncode else ""


def require(pycuda: bool = True) -> None:
    """Raises MissingDevice where something is missing."""
    missing = missing_here(pycuda=False)
    if not missing:
        try:
            native.folder()
            missing = missing_here(pycuda)
        except native.Unavailable as error:
            missing = [str(error)]
    if missing:
        raise MissingDevice(f"target {KIND}: missing here: {'; '.join(missing)}", f"{INSTALL}\nor {INSTEAD}")


def local(threads: int) -> ResolvedTarget:
    """The simulated GPU. Raises MissingDevice, saying what is missing."""
    require()
    return from_attributes(completed({"kind": KIND}), threads, to_run=False)


def completed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run file's attributes as those of a CUDA target, with the limits of the simulated GPU where it gives none."""
    return {"arch": _COMPILED_AS, **_LIMITS, **spec, "kind": "cuda", "model": MODEL}


def from_attributes(spec: Mapping[str, Any], wanted: int | None, to_run: bool) -> ResolvedTarget:
    """The target that a run file writes out. Raises TargetError where it is `to_run` and something is missing."""
    if to_run:
        require()
    full = completed(spec)
    for name, most in _LIMITS.items():
        if full[name] > most:
            raise TargetError(f"target.spec.{name}: {full[name]}, the simulated GPU has {most}", "leave it out")
    return ResolvedTarget(KIND, canonical(full), threads_of(wanted), LABEL, (ARCH,))
