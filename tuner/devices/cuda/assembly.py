"""Compiling a tuned model for a GPU: winners and default schedules in one module, run as one CUDA graph."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.relax.backend.cuda import pipeline
from tvm.target import Target

from kernels.cubin import compile_cubin
from kernels.default_gpu import default_schedule
from kernels.passes.swizzle import Swizzle
from kernels.space import Candidate, DesignSpace, InvalidCandidate, TraceApplier
from tuner.devices.target import ResolvedTarget
from tuner.export.library import NATIVE
from tuner.graph import Lowered, finish
from tuner.graph.arena import with_arena
from tuner.graph.plan import Unplannable
from tuner.models import ImportedModel
from tuner.protocols import Artifact, Task

_COMPILE_TIMEOUT_S = 1800.0

_SCHEDULED = "tirx.is_scheduled"
"""The attribute of functions that DLight, TVM's default GPU schedules, leaves as they are."""


def compile_models_with(compile: Callable[[str], bytes]) -> None:
    """Have TVM compile the CUDA source of a model by `compile`, in this process. TVM's own way wants more packages."""
    tvm.register_global_func("tvm_callback_cuda_compile", compile, override=True)


def assemble_gpu(lowered: Lowered, winners: Mapping[str, Any], target: Target, cuda_graph: bool = True) -> Any:
    """Compile the model for a GPU. `winners` maps workload keys to scheduled TensorIR functions.

    Kernels without a winner get TVM's default GPU schedules. Memory is planned statically (as one storage where the
    model is calls of kernels, else by TVM), and with `cuda_graph` the kernels run as one captured CUDA graph. Needs no
    GPU. Unlike on a CPU the winners are compiled again, all in one
    module: what was timed is the same program, not the same file.
    """
    functions = {}
    for var, function in lowered.module.functions.items():
        winner = winners.get(lowered.kernels.get(var.name_hint, ""))
        if winner is not None:
            attributes = dict(function.attrs.items())
            function = winner.without_attr("global_symbol").with_attrs({**attributes, _SCHEDULED: True})
        functions[var] = function
    with contextlib.suppress(Unplannable):
        functions[lowered.module.get_global_var("main")] = with_arena(lowered)
    module = default_schedule(tvm.IRModule(functions, attrs=lowered.module.attrs), target)
    options = {"relax.backend.use_cuda_graph": cuda_graph}
    with target, tvm.transform.PassContext(opt_level=3, config=options):
        return relax.build(module, target=target, relax_pipeline=finish(target, pipeline))


class CudaAssembly:
    """Implements `devices.device.Assembly`: parts are scheduled programs, compiled again with the model."""

    runtime = "cuda"
    form = NATIVE

    def __init__(self, target: ResolvedTarget) -> None:
        self._target = target.tvm()

    def part(self, task: Task, space: DesignSpace, candidate: Candidate, built: Callable[[], Artifact | None]) -> Any:
        if candidate.is_default:
            return None  # the model's own default schedules are that
        try:
            schedule = TraceApplier(task.workload, space, self._target).apply(candidate)
        except InvalidCandidate:
            return None
        passes = candidate.passes.replace(Swizzle())  # which wants whole lines, and TVM launches a model's kernels
        return passes.applied(schedule.mod["main"], self._target).function

    def compile(self, source: str) -> bytes:
        """A model's CUDA source as the driver loads it. TVM asks for it where its CUDA runtime can be loaded, that is
        where a driver is; elsewhere the model holds its source. Raises CompileFailed or MissingCompiler."""
        with tempfile.TemporaryDirectory(prefix="cuda-model-") as folder:
            return compile_cubin(source, str(self._target.arch), Path(folder), _COMPILE_TIMEOUT_S).path.read_bytes()

    def assemble(self, graph: Lowered, parts: Mapping[str, Any]) -> Any:
        compile_models_with(self.compile)
        return assemble_gpu(graph, parts, self._target)

    def untuned(self, model: ImportedModel, graph: Lowered) -> Any:
        return self.assemble(graph, {})
