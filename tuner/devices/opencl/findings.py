"""OpenCL's package, drivers and devices."""

from __future__ import annotations

import importlib.util

from tuner import environment
from tuner.config import RunConfig
from tuner.devices.finding import Finding, Findings, State
from tuner.devices.opencl.target import INSTALL, KIND, find_devices


def findings(config: RunConfig) -> Findings:
    """pyopencl and each device; broken where the run file wants OpenCL and there is none."""
    spec = config.target.spec
    wanted = spec == KIND or (not isinstance(spec, str) and spec.get("kind") == KIND)
    lacking = State.BROKEN if wanted else State.NOTE
    found = find_devices(environment.usable_threads())
    if isinstance(found, str):
        # A package without any driver is an unfinished set-up, even where nobody asks for it.
        lacking = max(lacking, State.WARNING, key=list(State).index) if _installed() else lacking
        advice = f"{INSTALL}; needed for `target: opencl` only"
        yield Finding(KIND, lacking, f"missing: {found}", advice)
        return
    for facts in found:
        half = "with" if not facts.missing_for("float16") else "without"
        yield Finding(KIND, State.OK, f"{facts.label}, {half} float16")
    if wanted and found[0].is_cpu:
        yield Finding(KIND, State.NOTE, "the only OpenCL device is a CPU", "its times say nothing of a GPU")


def _installed() -> bool:
    return importlib.util.find_spec("pyopencl") is not None
