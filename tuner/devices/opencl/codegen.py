"""A scheduled candidate as OpenCL C with its launch plan: compiled for the device where it is here, to see that it can
be."""

from __future__ import annotations

import functools
import hashlib
import os
from typing import TYPE_CHECKING

from tuner.devices.build_service import Compiled, Scheduled
from tuner.devices.opencl.children import child_env
from tuner.protocols import BuildFailure
from tuner.records import Status

if TYPE_CHECKING:
    from tuner.devices.opencl.driver import OpenclGpu


def compile(scheduled: Scheduled) -> Compiled | BuildFailure:
    """Emit the source and, where the target's device is here, compile it: its driver's build log is the reason where
    that fails.

    The untuned program binds no loop to threads: it gets TVM's default GPU schedule, as an untuned model does.
    """
    import tvm
    from tvm.target import Target

    from kernels.access import counters
    from kernels.default_gpu import default_schedule
    from kernels.emit_gpu import EmitFailed
    from kernels.opencl import emit_opencl

    candidate, target = scheduled.candidate, Target(dict(scheduled.target))
    try:
        module = scheduled.schedule.mod
        module = default_schedule(module, target) if candidate.is_default else module
        applied = candidate.passes.applied(module["main"], target)
        module = tvm.IRModule({"main": applied.function})
        with tvm.transform.PassContext(opt_level=3, config=applied.passes.context_options()):
            program = emit_opencl(module, target, scheduled.outputs)
    except (EmitFailed, RuntimeError, ValueError) as error:
        lines = (str(error).strip() or type(error).__name__).splitlines()
        return BuildFailure(Status.BUILD_FAILED, lines[-1][:300])
    resources = {"plan": program.plan.to_json(), "access": counters(module, target)}
    os.environ.update(child_env(1, scheduled.folder))
    gpu = _device(str(scheduled.target.get("model", "")))
    if gpu is not None:
        from tuner.devices.gpu.runner import GpuError

        try:
            resources["kernels"] = gpu.compiled(program.source, program.plan)
        except GpuError as error:
            return BuildFailure(Status.BUILD_FAILED, str(error))
    source = program.source.encode()
    path = scheduled.folder / f"{scheduled.entry}.cl"
    path.write_bytes(source)
    return Compiled(path, hashlib.sha256(source).hexdigest(), resources)


@functools.cache
def _device(model: str) -> OpenclGpu | None:
    """The device of a name, opened once a process; None where it, or pyopencl, is not here."""
    from tuner.devices.gpu.runner import GpuError

    try:
        from tuner.devices.opencl.driver import OpenclGpu, devices

        number = next((facts.number for facts in devices() if facts.model == model), None)
        return None if number is None else OpenclGpu(number)
    except (ImportError, GpuError):
        return None
