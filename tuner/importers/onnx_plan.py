"""An ONNX model of which a part cannot be lowered: what is tuned of it, and what stays with ONNX Runtime."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tuner.errors import MissingPackage, ModelError
from tuner.importers.onnx_clean import rename_inputs
from tuner.importers.onnx_cut import cut, drop_unread
from tuner.importers.onnx_file import described, operator_of
from tuner.importers.onnx_parts import Part, island, parts_of, side_by_side, types_of
from tuner.importers.onnx_relax.importer import NotConvertible, to_relax
from tuner.importers.onnx_runtime import complete, computes
from tuner.importers.onnx_shapes import known_shapes
from tuner.importers.onnx_support import kept_out
from tuner.models import KeptOut, ModelPlan, OutputSpec, Segment

_TRIES = 64
"""Each is a conversion of the model up to the first node that a converter refuses."""

_TOO_SMALL = "what can be tuned around it is too small for a part of its own"


class _Untyped(NotConvertible):
    """A node between two tuned parts, of which nobody knows what type of tensor it makes."""


def planned(model: onnx.ModelProto, source: str) -> tuple[Any, ModelPlan | None]:
    """A settled model as relax, and its plan where a part of it cannot be lowered.

    A node that a converter refuses stays with ONNX Runtime, too, where that computes it; of an operator of which two
    were refused, all do. Raises ModelError for one that neither takes, and, naming the first node that cannot be
    lowered, where nothing is left to tune.
    """
    failed: dict[str, str] = {}
    refused: Counter[str] = Counter()
    if kept_out(model, failed):
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingPackage("onnxruntime", "a model of which a part is not compiled", "onnx")
        drop_unread(model.graph)
        complete(model)
    for _ in range(_TRIES):
        out = kept_out(model, failed)
        try:
            if not out:
                return to_relax(model, source), None
            failed.update(_made_by_nodes(model))
            return _in_parts(model, source, kept_out(model, failed))
        except NotConvertible as error:
            node = next(n for n in model.graph.node if n.output[:] == list(error.makes))
            if not isinstance(error, _Untyped) and not computes(model, node):
                raise
            refused[error.operator] += 1
            failed.update(dict.fromkeys(error.makes, error.why))
            if refused[error.operator] > 1:
                same = [node for node in model.graph.node if node.op_type == error.operator]
                failed.update({name: error.why for node in same for name in node.output if name})
    raise ModelError(source, f"nodes of too many operators cannot be converted: {', '.join(refused)}")


def _in_parts(model: onnx.ModelProto, source: str, out: Mapping[int, KeptOut]) -> tuple[Any, ModelPlan]:
    graph = model.graph
    parts = parts_of(graph, cut(graph, out, known_shapes(graph)))
    tuned = [part for part in parts if part.cut.tuned]
    if not tuned:
        first = next(iter(out.values()))
        why = f"operator {first.node} is not supported: {first.reason}"
        raise ModelError(source, why, "no part of the model is left that can be tuned")
    _require_types(graph, tuned, source)
    _require_numbers(graph, parts, next(iter(out.values())), source)
    module = to_relax(side_by_side(model, tuned), source)
    crossing = dict(zip((name for part in tuned for name in part.outputs), _results(module), strict=True))
    segments = tuple(
        Segment(part.inputs, part.outputs) if part.cut.tuned
        else Segment(part.inputs, part.outputs, island(model, part, crossing), tuple(_nodes(graph, part, out)))
        for part in parts
    )  # fmt: skip
    return module, ModelPlan(segments, tuple(map(_output, graph.output)))


def _require_types(graph: onnx.GraphProto, tuned: Sequence[Part], source: str) -> None:
    """Raise NotConvertible for the maker of a value that a tuned part reads and whose type is not known."""
    types = types_of(graph)
    unknown = {name for part in tuned for name in part.inputs if name not in types}
    for node in graph.node:
        if unknown.intersection(node.output):
            raise _Untyped(source, node, "the type of what it makes is not known before the model runs")


def _require_numbers(graph: onnx.GraphProto, parts: Sequence[Part], first: KeptOut, source: str) -> None:
    """Raise ModelError where parts exchange tensors of a type that numpy has not: `first` is what divides them."""
    types = types_of(graph)
    given = {value.name for value in graph.input}
    for name in (name for part in parts if part.cut.tuned for name in (*part.inputs, *part.outputs)):
        code = types[name].tensor_type.elem_type if name in types else 0
        dtype = helper.tensor_dtype_to_np_dtype(code) if code else np.dtype("float32")
        if dtype.kind not in "biuf":
            why = f"operator {first.node} is not supported: {first.reason}"
            what = "is" if name in given else "would be handed from part to part"
            raise ModelError(source, why, f"and what is around it cannot be tuned: {name!r} {what} in {dtype}")


def _results(module: Any) -> Iterator[onnx.TypeProto]:
    """The types of what `main` returns."""
    result = module["main"].ret_ty
    for field in result.fields if hasattr(result, "fields") else [result]:
        code = helper.np_dtype_to_tensor_dtype(np.dtype(str(field.dtype)))
        yield helper.make_tensor_type_proto(code, [int(extent) for extent in field.shape])


def _nodes(graph: onnx.GraphProto, part: Part, out: Mapping[int, KeptOut]) -> Iterator[KeptOut]:
    for number in part.cut.nodes:
        node = graph.node[number]
        yield out.get(number) or KeptOut(operator_of(node), described(node), _TOO_SMALL, follows=True)


def _made_by_nodes(model: onnx.ModelProto) -> dict[str, str]:
    """Let nodes make the model's outputs that are constants, in place. Why these nodes are not tuned, by output."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    constant = {output.name: f"{output.name}__constant" for output in graph.output if output.name in stored}
    for name, renamed in constant.items():
        stored[name].name = renamed
        for node in graph.node:
            rename_inputs(node, {name: renamed})
        graph.node.append(helper.make_node("Identity", [renamed], [name], name=renamed))
    return dict.fromkeys(constant, "a constant")


def _output(value: onnx.ValueInfoProto) -> OutputSpec:
    if value.type.WhichOneof("value") != "tensor_type":
        return OutputSpec(value.name, None, str(value.type.WhichOneof("value")).removesuffix("_type"))
    tensor = value.type.tensor_type
    text = tensor.elem_type == onnx.TensorProto.STRING
    dtype = "string" if text else helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    return OutputSpec(value.name, tuple(shape) if tensor.HasField("shape") else None, dtype)
