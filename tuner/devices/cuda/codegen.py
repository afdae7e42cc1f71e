"""A scheduled candidate as a cubin with its launch plan: what a build for CUDA makes. Needs nvcc, and no GPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.records import Status

if TYPE_CHECKING:
    from kernels.space import Candidate

_NVCC_TIMEOUT_S = 600.0
"""A compiler that hangs beyond any build timeout of a run file; the run's own is kept by whoever called us."""


def build(
    schedule: Any, candidate: Candidate, target: Any, num_outputs: int, folder: Path, entry: str, started: float
) -> dict[str, Any]:
    """Compile for `target.arch` into `folder`; an answer as `BuildService.op_build` gives it.

    The untuned program binds no loop to threads: it gets TVM's default GPU schedule, as an untuned model does.
    """
    import tvm

    from kernels.cubin import CompileFailed, MissingCompiler, compile_cubin
    from kernels.default_gpu import default_schedule
    from kernels.emit_cuda import EmitFailed, emit

    try:
        module = default_schedule(schedule.mod, target) if candidate.is_default else schedule.mod
        with tvm.transform.PassContext(opt_level=3, config=candidate.passes.context_options()):
            program = emit(module, target, num_outputs)
        source = candidate.passes.on_source(program.source)
        made = compile_cubin(source, str(target.arch), folder, _NVCC_TIMEOUT_S, candidate.passes.compiler_options())
    except (EmitFailed, CompileFailed, MissingCompiler, RuntimeError, ValueError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()
        # Of a compiler's errors the first is the cause; TVM's messages end with theirs.
        reason = said[0 if isinstance(error, CompileFailed) else -1][:300]
        return {"status": Status.BUILD_FAILED, "reason": reason, "build_s": time.perf_counter() - started}
    return {
        "path": str(made.path),
        "entry": entry,
        "sha256": made.sha256,
        "build_s": time.perf_counter() - started,
        "resources": {
            "plan": program.plan.to_json(),
            "kernels": made.launch_usage(program.plan),
            **made.resources(),
        },
    }
