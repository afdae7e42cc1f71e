"""The simulated GPU as a TVM target, and what it needs of this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from tuner.caveats import Caveat, Caveats
from tuner.devices.cuda.simulated import native
from tuner.devices.target import INSTEAD, ResolvedTarget, canonical, threads_of
from tuner.errors import TargetError

KIND = "simulated_cuda"
MODEL = "simulated"
"""The `model` of its TVM targets, by which they are told from those of a GPU."""

ARCH = "simulated"
"""What its kernels are for: no GPU loads them."""

LABEL = "Simulated GPU: its times are estimates"
"""What the simulated driver calls it."""

CAVEATS = Caveats(
    kernel=Caveat(
        "estimate", "No GPU was used: every time of a kernel is an estimate of the analytical model, not a measurement."
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

INSTALL = f"`make setup` builds what is missing where a C++ compiler and CUDA's headers are\nor {INSTEAD}"


def missing_here(pycuda: bool = True) -> list[str]:
    """What the simulated GPU lacks on this machine; empty when there is nothing. `pycuda`: with what runs kernels."""
    missing = []
    for part in (native.compiler, native.headers):
        try:
            part()
        except native.Unavailable as error:
            missing.append(str(error))
    if pycuda and importlib.util.find_spec("pycuda") is None:
        missing.append("the package PyCUDA")
    return missing


def require(pycuda: bool = True) -> None:
    """Raises TargetError where something is missing."""
    if missing := missing_here(pycuda):
        raise TargetError(f"target {KIND}: missing here: {'; '.join(missing)}", INSTALL)
    try:
        native.folder()
    except native.Unavailable as error:
        raise TargetError(f"target {KIND}: missing here: {error}", INSTALL) from error


def local(threads: int) -> ResolvedTarget:
    """The simulated GPU. Raises TargetError, saying what is missing."""
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
