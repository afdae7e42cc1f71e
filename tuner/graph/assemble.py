"""Putting the winners back: the whole model linked from the very objects that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call
from tvm.target import Target

from kernels.default_gpu import default_schedule
from tuner.graph.lower import Lowered
from tuner.graph.rewriter import op_name

_SCHEDULED = "tirx.is_scheduled"
"""What DLight leaves alone."""


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
    kept = {var: f for var, f in module.functions.items() if var.name_hint not in symbols and var.name_hint != "main"}
    kept[module.get_global_var("main")] = main
    libraries = [
        tvm.runtime.load_static_library(str(path), [symbol])
        for symbol, path in {s: p for s, p in winners.values()}.items()
    ]
    module = tvm.IRModule(kept, attrs=module.attrs).with_attr("external_mods", libraries)
    with target, tvm.transform.PassContext(opt_level=3):
        return relax.build(module, target=target, relax_pipeline=_finish(target))


def _finish(target: Target) -> Any:
    """The part of TVM's pipeline after fusion: memory planning and lowering to VM instructions."""
    if target.kind.name == "cuda":
        from tvm.relax.backend.cuda import pipeline
    else:
        from tvm.relax.backend.cpu_generic import pipeline

    return tvm.transform.Sequential([*pipeline.dataflow_lower_passes(target), *pipeline.finalize_passes(target)])


def assemble_gpu(lowered: Lowered, winners: Mapping[str, Any], target: Target, graph: bool = True) -> Any:
    """Compile the model for a GPU. `winners` maps workload keys to scheduled TensorIR functions.

    Kernels without a winner get TVM's default GPU schedules. Memory is planned statically, and with `graph` the kernels
    run as one captured CUDA graph. Needs no GPU. Unlike on a CPU the winners are compiled again, all in one
    module: what was timed is the same program, not the same file.
    """
    functions = {}
    for var, function in lowered.module.functions.items():
        winner = winners.get(lowered.kernels.get(var.name_hint, ""))
        if winner is not None:
            kept = {name: value for name, value in function.attrs.items()}
            function = winner.without_attr("global_symbol").with_attrs({**kept, _SCHEDULED: True})
        functions[var] = function
    module = default_schedule(tvm.IRModule(functions, attrs=lowered.module.attrs), target)
    options = {"relax.backend.use_cuda_graph": graph}
    with target, tvm.transform.PassContext(opt_level=3, config=options):
        return relax.build(module, target=target, relax_pipeline=_finish(target))


def build_untuned(module: tvm.IRModule, target: Target) -> Any:
    """The model as TVM compiles it by itself: default pipeline, plain layout, no schedules."""
    with target, tvm.transform.PassContext(opt_level=3):
        return relax.build(module, target=target, relax_pipeline=relax.get_default_pipeline(target))
