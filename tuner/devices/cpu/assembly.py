"""Linking a tuned model for a CPU, from the object files that were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call
from tvm.relax.backend.cpu_generic import pipeline
from tvm.target import Target

from kernels.space import Candidate, DesignSpace
from tuner.devices.cpu.static_model import StaticModel
from tuner.devices.target import ResolvedTarget
from tuner.export.library import NATIVE
from tuner.graph import Lowered, build_untuned, finish
from tuner.graph.integers import in_integers
from tuner.graph.plan import Unplannable, plan
from tuner.graph.rewriter import op_name
from tuner.models import ImportedModel
from tuner.protocols import Artifact, Task


@relax.expr_functor.mutator
class _CallObjects(relax.PyExprMutator):  # type: ignore[misc]
    """Replaces calls of TensorIR functions by calls of external symbols."""

    def __init__(self, symbols: Mapping[str, str]) -> None:
        super().__init__()
        self._symbols = symbols

    def visit_call_(self, call: Call) -> Any:
        call = super().visit_call_(call)
        if op_name(call) != "relax.call_tir":
            return call
        symbol = self._symbols.get(call.args[0].name_hint)
        if symbol is None:
            return call
        return Call(
            call.op.get("relax.call_dps_packed"), [relax.ExternFunc(symbol), *call.args[1:]], call.attrs, call.ty_args
        )


def assemble(lowered: Lowered, winners: Mapping[str, tuple[str, Path]], target: Target) -> Any:
    """Compile the model. `winners` maps workload keys to (exported symbol, object file).

    Kernels without a winner are compiled by TVM as they are. Returns a relax VMExecutable whose
    `export_library` yields one self-contained shared library.
    """
    symbols = {name: winners[key][0] for name, key in lowered.kernels.items() if key in winners}
    module = lowered.module
    main = _CallObjects(symbols).visit_expr(module["main"])
    functions = {v: f for v, f in module.functions.items() if v.name_hint not in symbols and v.name_hint != "main"}
    functions[module.get_global_var("main")] = main
    libraries = [
        tvm.runtime.load_static_library(str(path), [symbol])
        for symbol, path in {s: p for s, p in winners.values()}.items()
    ]
    module = tvm.IRModule(functions, attrs=module.attrs).with_attr("external_mods", libraries)
    with target, tvm.transform.PassContext(opt_level=3):
        return relax.build(module, target=target, relax_pipeline=finish(target, pipeline))


class CpuAssembly:
    """Implements `devices.device.Assembly`: parts are (symbol, object file) of the kernels that were measured."""

    runtime = "cpu"
    form = NATIVE

    def __init__(self, target: ResolvedTarget) -> None:
        self._target = target.tvm()

    def part(
        self, task: Task, space: DesignSpace, candidate: Candidate, built: Callable[[], Artifact | None]
    ) -> tuple[str, Path] | None:
        artifact = built()
        return None if artifact is None else (artifact.entry, artifact.path.with_suffix(".o"))

    def assemble(self, graph: Lowered, parts: Mapping[str, Any]) -> Any:
        """A static model; where the graph is more than calls of kernels, one for TVM's virtual machine."""
        try:
            planned = plan(graph)
        except Unplannable:
            return assemble(graph, parts, self._target)
        objects = {name: parts[key] for name, key in graph.kernels.items() if key in parts}
        return StaticModel(graph, planned, objects, self._target)

    def untuned(self, model: ImportedModel, graph: Lowered) -> Any:
        return build_untuned(in_integers(model.module), self._target)
