"""A scheduled candidate as a cubin with its launch plan. Needs nvcc or NVRTC, and no GPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.devices.build_service import Compiled, Scheduled
from tuner.protocols import BuildFailure
from tuner.records import Status

if TYPE_CHECKING:
    from kernels.cubin import Cubin
    from kernels.emit_gpu import GpuProgram
    from kernels.passes import PassConfig

_NVCC_TIMEOUT_S = 600.0
"""For a compiler that hangs. It is longer than the build timeout of any run file, which the parent enforces."""

_DISASSEMBLY_S = 60.0


def compile(scheduled: Scheduled) -> Compiled | BuildFailure:
    """Compile for the target's architecture."""
    from kernels.cubin import compile_cubin

    def cubin(source: str, arch: str, program: GpuProgram, passes: PassConfig) -> Cubin:
        return compile_cubin(source, arch, scheduled.folder, _NVCC_TIMEOUT_S, passes.compiler_options())

    return compile_through(cubin, scheduled)


def compile_through(
    cubin: Callable[[str, str, GpuProgram, PassConfig], Cubin], scheduled: Scheduled
) -> Compiled | BuildFailure:
    """Emit CUDA source and have `cubin` compile it for an architecture.

    The untuned program binds no loop to threads: it gets TVM's default GPU schedule, as an untuned model does.
    """
    import tvm
    from tvm.target import Target

    from kernels.access import counters
    from kernels.cubin import CompileFailed, MissingCompiler
    from kernels.default_gpu import default_schedule
    from kernels.emit_gpu import EmitFailed, emit

    candidate, target = scheduled.candidate, Target(dict(scheduled.target))
    try:
        module = scheduled.schedule.mod
        module = default_schedule(module, target) if candidate.is_default else module
        applied = candidate.passes.applied(module["main"], target)
        module, passes = tvm.IRModule({"main": applied.function}), applied.passes
        with tvm.transform.PassContext(opt_level=3, config=passes.context_options()):
            program = emit(module, target, scheduled.outputs)
        source = passes.on_source(program.source)
        made = cubin(source, str(target.arch), program, passes)
    except (EmitFailed, CompileFailed, MissingCompiler, RuntimeError, ValueError) as error:
        lines = (str(error).strip() or type(error).__name__).splitlines()
        # Of a compiler's errors the first is the cause; TVM's messages end with it.
        return BuildFailure(Status.BUILD_FAILED, lines[0 if isinstance(error, CompileFailed) else -1][:300])
    resources = {
        "plan": program.plan.to_json(),
        "access": counters(module, target),
        "kernels": made.launch_usage(program.plan),
        **made.resources(),
    }
    return Compiled(made.path, made.sha256, resources)


def machine_code(cubin: Path) -> tuple[str, str]:
    """What NVIDIA's disassembler says of a cubin, and why it says nothing, where it does not."""
    program = shutil.which("cuobjdump")
    if program is None:
        return "", "cuobjdump is not here: it comes with the CUDA toolkit"
    done = subprocess.run([program, "-sass", str(cubin)], capture_output=True, text=True, timeout=_DISASSEMBLY_S)
    code = "\n".join(line.rstrip() for line in done.stdout.splitlines() if line.strip())
    return code, "" if done.returncode == 0 else f"cuobjdump failed: {done.stderr.strip()[-200:]}"
