"""From a cleaned model to kernels: layout, legalization, fusion, and the tasks in it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, GenericConst
from tvm.target import Target

from kernels.dots import offered
from kernels.space.sketch_rules import rules_of
from kernels.tensors import ConstantOperands, TensorSpec
from kernels.workload import Workload, from_prim_func
from tuner.graph import attention
from tuner.graph.framed import padded_by_convolutions
from tuner.graph.joins import ConcatenationOrigins, joins
from tuner.graph.layout import Pack
from tuner.graph.names import shortened
from tuner.graph.origins import ConvolutionOrigins
from tuner.graph.products import read_in_place
from tuner.graph.rewriter import shape_of
from tuner.graph.softmax import softmax_rules
from tuner.protocols import Task


@dataclass(frozen=True)
class GraphConfig:
    """Graph-level pass configuration.

    `layout`: NCHW, NHWC or NCHW<b>c (channels packed by b). `fusion_depth`: the most operators fused into one
    kernel, 0 for none, -1 for TVM's default. `tile`: convolutions in packed layouts are computed by Winograd's
    F(tile x tile, 3 x 3) where that is worth a search, 0 for none. `attention`: scores, softmax and the product with
    the values are one kernel, where there are sketch rules for it.
    """

    layout: str = "NCHW"
    fusion_depth: int = -1
    tile: int = 0
    attention: bool = False

    def to_text(self) -> str:
        tile = f" tile={self.tile}" if self.tile else ""
        attention = " attention=one kernel" if self.attention else ""
        return f"layout={self.layout} fusion_depth={self.fusion_depth}{tile}{attention}"


@dataclass(frozen=True)
class Lowered:
    """A model as relax `main` plus one TensorIR function a kernel. `kernels` maps their names to workload keys.

    `concatenations`: the axes along which some of those functions concatenate, by name. On a CPU most of these copy
    nothing (`tuner.graph.joins`), and only those that do are among the tasks.
    """

    module: tvm.IRModule
    config: GraphConfig
    tasks: tuple[Task, ...]
    kernels: Mapping[str, str] = field(default_factory=dict)
    concatenations: Mapping[str, int] = field(default_factory=dict)

    @property
    def kernels_of_attention(self) -> tuple[str, ...]:
        """The names of the kernels that compute attention by themselves."""
        return tuple(name for name in self.kernels if name.startswith(attention.RULE))


def preferred_layout(lanes: int) -> str:
    """The packed layout whose block fills one vector register."""
    return f"NCHW{lanes}c"


def lower(module: tvm.IRModule, config: GraphConfig, target: Target) -> Lowered:
    """Lower a cleaned module to kernels and list its tasks, duplicates merged and weighted by use."""
    attend = config.attention and attention.RULE in rules_of(target)
    module, origins = read_in_place(module, target, whole_tiles=attend)
    packed = re.fullmatch(r"NCHW(\d+)c", config.layout)
    if packed:
        pack = Pack(module, int(packed.group(1)), config.tile, offered(target))
        module = pack.run()
        origins = {**origins, **pack.origins}
    elif config.layout == "NCHW":
        module, framed = padded_by_convolutions(module)
        origins = {**origins, **framed}
    elif config.layout == "NHWC":
        module = relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "OHWI"]})(module)
    plain = ConvolutionOrigins()
    joined = ConcatenationOrigins()
    rules = plain.rules() | (softmax_rules() | joined.rules() if rules_of(target) else {})
    options = {} if config.fusion_depth < 1 else {"relax.FuseOps.max_depth": config.fusion_depth}
    fuse = [] if config.fusion_depth == 0 else [relax.transform.FuseOps()]
    with target, tvm.transform.PassContext(opt_level=3, config=options):
        module = tvm.transform.Sequential(
            [
                relax.transform.CanonicalizeBindings(),
                relax.transform.DeadCodeElimination(),
                relax.backend.DispatchSampling(),
                relax.backend.DispatchSortScan(),  # sorts and scans have no legalization
                relax.transform.LegalizeOps(rules),
                relax.transform.AnnotateTIROpPattern(),
                *fuse,
            ]
        )(module)
        members = _members(module)
        if fuse:
            module = relax.transform.FuseTIR()(module)
        if attend and fuse:
            module = attention.merged(module, members, origins)
        module["main"] = _ViewReshapes(module).visit_expr(module["main"])
        module = relax.transform.DeadCodeElimination()(module)
    return _extract(module, config, target, {**plain.origins, **origins}, members, joined.axes)


@relax.expr_functor.mutator
class _ViewReshapes(relax.PyExprMutator):  # type: ignore[misc]
    """Replaces kernels that only copy into another shape by `relax.reshape`, which the VM does without a copy.

    An output that is an input in another shape stays a copy: callers may write to either.
    """

    def __init__(self, module: tvm.IRModule) -> None:
        super().__init__(module)
        self._module = module
        self._is_output = False

    def visit_var_binding_(self, binding: Any) -> None:
        self._is_output = not isinstance(binding.var, relax.DataflowVar)
        super().visit_var_binding_(binding)

    def visit_call_(self, call: Call) -> Any:
        call = super().visit_call_(call)
        if not is_call_tir(call) or len(call.args[1].fields) != 1 or not hasattr(call.ty, "shape"):
            return call
        [source] = call.args[1].fields
        if self._is_output and any(source.same_as(param) for param in self._module["main"].params):
            return call
        same = source.ty.dtype == call.ty.dtype and math.prod(shape_of(source)) == math.prod(shape_of(call))
        if not same or not relax.analysis.has_reshape_pattern(self._module[call.args[0]]):
            return call
        return relax.op.reshape(source, call.ty.shape)


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
    concatenations: Mapping[str, int],
) -> Lowered:
    weights: Counter[str] = Counter()
    outputs: dict[str, int] = {}
    free = joins(module["main"], concatenations)
    constant: dict[str, set[int]] = {}  # the positions of each function's arguments that are constant in all its calls
    model_bytes = 0
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, Call) and is_call_tir(binding.value) and binding.var not in free:
                name = binding.value.args[0].name_hint
                weights[name] += 1
                sizes = _constant_sizes(binding.value.args[1])
                model_bytes += sum(sizes.values())
                constant[name] = constant.get(name, set(sizes)) & set(sizes)
                outputs[name] = len(binding.var.ty.fields) if hasattr(binding.var.ty, "fields") else 1
    workloads: dict[str, Workload] = {}
    kernels: dict[str, str] = {}
    merged: Counter[str] = Counter()
    always: dict[str, set[int]] = {}
    for var, function in module.functions.items():
        name = var.name_hint
        if name not in weights or not isinstance(function, tvm.tirx.PrimFunc):
            continue
        operators = members.get(name, [name])
        shapes = [[int(extent) for extent in param.shape] for param in function.params[:2]]
        label, origin = _describe(operators, shapes, origins)
        workload = from_prim_func(function, shortened(label), outputs[name], origin)
        kernels[name] = workload.key
        merged[workload.key] += weights[name]
        always[workload.key] = always.get(workload.key, constant[name]) & constant[name]
        workloads.setdefault(workload.key, workload)
    text = str(target)
    tasks = tuple(
        Task(workload, text, merged[key], ConstantOperands(tuple(sorted(always[key])), model_bytes))
        for key, workload in workloads.items()
    )
    return Lowered(module, config, tasks, kernels, concatenations)


def _constant_sizes(arguments: Any) -> dict[int, int]:
    """The bytes of those arguments of a call that are constants, by position."""
    fields = arguments.fields if isinstance(arguments, relax.Tuple) else [arguments]
    return {
        position: TensorSpec(shape_of(field), str(field.ty.dtype)).nbytes
        for position, field in enumerate(fields)
        if isinstance(field, GenericConst)
    }


def _describe(
    operators: Sequence[str], input_shapes: Sequence[Any], origins: Mapping[str, Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """A readable name for a kernel of fused operators, and what its main operator is and what follows it.

    `["conv2d_3x3s27", "add1", "relu"]` becomes `conv2d_3x3s2_64x56x56_to_128_add_relu`: digits that
    only make a name unique are dropped.
    """
    bare = [re.sub(r"\d+$", "", operator).removeprefix("tir_") for operator in operators]
    if (shapes := attention.shapes(operators, origins)) is not None:
        return f"attention_{shapes}", {}
    anchors = [i for i, operator in enumerate(operators) if operator in origins]
    if len(anchors) == 1:
        origin = dict(origins[operators[anchors[0]]])
        origin["epilogue"] = bare[anchors[0] + 1 :]
        if origin["op"] == "matmul":
            name = f"matmul_{'x'.join(map(str, origin['a']))}_by_{'x'.join(map(str, origin['b']))}"
        else:
            name = f"{origin.pop('hint')}_{'x'.join(map(str, origin['data'][1:]))}_to_{origin['weight'][0]}"
        return "_".join([*bare[: anchors[0]], name, *origin["epilogue"]]), origin
    if bare.count("matmul") == 1 and bare[0] == "matmul":
        a, b = input_shapes[0], input_shapes[1]
        origin = {"op": "matmul", "a": a, "b": b, "epilogue": bare[1:]}
        return "_".join([f"matmul_{'x'.join(map(str, a))}_by_{'x'.join(map(str, b))}", *bare[1:]]), origin
    return "_".join(bare), {}


def input_specs(lowered: Lowered) -> list[tuple[list[int], str]]:
    """Shapes and dtypes of what `main` takes."""
    return [(list(shape_of(param)), str(param.ty.dtype)) for param in lowered.module["main"].params]


def output_specs(lowered: Lowered) -> list[tuple[list[int], str]]:
    """Shapes and dtypes of what `main` returns."""
    result = lowered.module["main"].ret_ty
    fields = list(result.fields) if hasattr(result, "fields") else [result]
    return [([int(extent) for extent in f.shape], str(f.dtype)) for f in fields]
