"""From a cleaned model to kernels: layout, legalization, fusion, and the tasks in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call
from tvm.target import Target

from kernels.workload import Workload, from_prim_func
from tuner.graph.layout import Pack
from tuner.graph.origins import ConvolutionOrigins
from tuner.protocols import Task


@dataclass(frozen=True)
class GraphConfig:
    """Graph-level pass configuration.

    `layout`: NCHW, NHWC or NCHW<b>c (channels packed by b). `fusion_depth`: the most operators fused into one
    kernel, 0 for none, -1 for TVM's default. `tile`: convolutions in packed layouts are computed by Winograd's
    F(tile x tile, 3 x 3) where that is worth a search, 0 for none.
    """

    layout: str = "NCHW"
    fusion_depth: int = -1
    tile: int = 0

    def to_text(self) -> str:
        tile = f" tile={self.tile}" if self.tile else ""
        return f"layout={self.layout} fusion_depth={self.fusion_depth}{tile}"


@dataclass(frozen=True)
class Lowered:
    """A model as relax `main` plus one TensorIR function a kernel. `kernels` maps their names to workload keys."""

    module: tvm.IRModule
    config: GraphConfig
    tasks: tuple[Task, ...]
    kernels: Mapping[str, str] = field(default_factory=dict)


def preferred_layout(lanes: int) -> str:
    """The packed layout whose block fills one vector register."""
    return f"NCHW{lanes}c"


def lower(module: tvm.IRModule, config: GraphConfig, target: Target) -> Lowered:
    """Lower a cleaned module to kernels and list its tasks, duplicates merged and weighted by use."""
    origins: dict[str, dict[str, Any]] = {}
    packed = re.fullmatch(r"NCHW(\d+)c", config.layout)
    if packed:
        pack = Pack(module, int(packed.group(1)), config.tile)
        module = pack.run()
        origins = pack.origins
    elif config.layout == "NHWC":
        module = relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "OHWI"]})(module)
    plain = ConvolutionOrigins()
    options = {} if config.fusion_depth < 1 else {"relax.FuseOps.max_depth": config.fusion_depth}
    fuse = [] if config.fusion_depth == 0 else [relax.transform.FuseOps()]
    with target, tvm.transform.PassContext(opt_level=3, config=options):
        module = tvm.transform.Sequential(
            [
                relax.transform.CanonicalizeBindings(),
                relax.transform.DeadCodeElimination(),
                relax.transform.LegalizeOps(plain.rules()),
                relax.transform.AnnotateTIROpPattern(),
                *fuse,
            ]
        )(module)
        members = _members(module)
        if fuse:
            module = relax.transform.FuseTIR()(module)
        module = relax.transform.DeadCodeElimination()(module)
    return _extract(module, config, target, {**plain.origins, **origins}, members)


def _members(module: tvm.IRModule) -> dict[str, list[str]]:
    """Which TensorIR functions each fused relax function calls, by name."""
    members: dict[str, list[str]] = {}
    for var, function in module.functions.items():
        if isinstance(function, relax.Function) and var.name_hint != "main":
            members[var.name_hint] = [
                binding.value.args[0].name_hint
                for block in function.body.blocks
                for binding in block.bindings
                if isinstance(binding.value, Call) and is_call_tir(binding.value)
            ]
    return members


def is_call_tir(call: Call) -> bool:
    """Whether a call is one of a TensorIR kernel."""
    return isinstance(call.op, tvm.ir.Op) and str(call.op.name) == "relax.call_tir"


def _extract(
    module: tvm.IRModule,
    config: GraphConfig,
    target: Target,
    origins: Mapping[str, Mapping[str, Any]],
    members: Mapping[str, list[str]],
) -> Lowered:
    weights: Counter[str] = Counter()
    outputs: dict[str, int] = {}
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, Call) and is_call_tir(binding.value):
                name = binding.value.args[0].name_hint
                weights[name] += 1
                outputs[name] = len(binding.var.ty.fields) if hasattr(binding.var.ty, "fields") else 1
    workloads: dict[str, Workload] = {}
    kernels: dict[str, str] = {}
    merged: Counter[str] = Counter()
    for var, function in module.functions.items():
        name = var.name_hint
        if name not in weights or not isinstance(function, tvm.tirx.PrimFunc):
            continue
        operators = members.get(name, [name])
        shapes = [[int(extent) for extent in param.shape] for param in function.params[:2]]
        label, origin = _describe(operators, shapes, origins)
        workload = from_prim_func(function, label, outputs[name], origin)
        kernels[name] = workload.key
        merged[workload.key] += weights[name]
        workloads.setdefault(workload.key, workload)
    text = str(target)
    tasks = tuple(Task(workloads[key], text, merged[key]) for key in workloads)
    return Lowered(module, config, tasks, kernels)


def _describe(
    operators: Sequence[str], input_shapes: Sequence[Any], origins: Mapping[str, Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """A readable name for a kernel of fused operators, and what its main operator is and what follows it.

    `["conv2d_3x3s27", "add1", "relu"]` becomes `conv2d_3x3s2_64x56x56_to_128_add_relu`: digits that
    only make a name unique are dropped.
    """
    bare = [re.sub(r"\d+$", "", operator) for operator in operators]
    anchors = [i for i, operator in enumerate(operators) if operator in origins]
    if len(anchors) == 1:
        origin = dict(origins[operators[anchors[0]]])
        origin["epilogue"] = bare[anchors[0] + 1 :]
        name = f"{origin.pop('hint')}_{'x'.join(map(str, origin['data'][1:]))}_to_{origin['weight'][0]}"
        return "_".join([*bare[: anchors[0]], name, *origin["epilogue"]]), origin
    if bare.count("matmul") == 1 and bare[0] == "matmul":
        a, b = input_shapes[0], input_shapes[1]
        origin = {"op": "matmul", "a": a, "b": b, "epilogue": bare[1:]}
        return "_".join([f"matmul_{'x'.join(map(str, a))}_by_{'x'.join(map(str, b))}", *bare[1:]]), origin
    return "_".join(bare), {}


def output_specs(lowered: Lowered) -> list[tuple[list[int], str]]:
    """Shapes and dtypes of what `main` returns."""
    result = lowered.module["main"].ret_ty
    fields = list(result.fields) if hasattr(result, "fields") else [result]
    return [([int(extent) for extent in f.shape], str(f.dtype)) for f in fields]
