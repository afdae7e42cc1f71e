"""Which nodes of an ONNX graph cannot become relax, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from tuner.importers.onnx_clean import read_by
from tuner.importers.onnx_control import OPERATORS
from tuner.importers.onnx_file import described, operator_of
from tuner.importers.onnx_relax.importer import is_supported
from tuner.importers.onnx_shapes import known_shapes
from tuner.models import KeptOut


def kept_out(model: onnx.ModelProto, failed: Mapping[str, str]) -> dict[int, KeptOut]:
    """The nodes of a settled model (`onnx_fold.settled`) that cannot be converted, by their number.

    A node is convertible when its operator has a converter, it has no subgraph, its operands are tensors of numbers,
    and the shapes of what it makes follow from those of its operands, all of which are known. `failed` has the reason
    for nodes that a converter refused, by what they make.
    """
    graph = model.graph
    shapes = known_shapes(graph)
    others, narrow = set(_no_numbers(graph)), _narrow_values(graph)
    unknown: set[str] = set()
    out: dict[int, KeptOut] = {}
    for number, node in enumerate(graph.node):
        behind = next((name for name in read_by(node) if name in unknown), None)
        reason = next((failed[name] for name in node.output if name in failed), "") or _reason(node, shapes, others)
        reason = reason or _of_narrow(node, narrow)
        if not reason and behind is None:
            continue
        waits = f"the shape of {behind!r}, which it reads, is known only when the model runs"
        out[number] = KeptOut(operator_of(node), described(node), reason or waits, follows=not reason)
        unknown.update(name for name in node.output if name and name not in shapes)
    return out


def _no_numbers(graph: onnx.GraphProto) -> Iterator[str]:
    """Values that are texts, sequences, maps or optionals."""
    yield from (tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.STRING)
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type") or value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            yield value.name


def _reason(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], others: set[str]) -> str:
    if others.intersection((*node.input, *node.output)):
        return "its operands or results are texts, sequences, maps or optionals"
    if node.domain in ("", "ai.onnx") and node.op_type in OPERATORS:
        return "its condition or number of trips is not known at import"
    if not is_supported(node.domain, node.op_type):
        return "no converter for this operator"
    if node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute):
        return "training_mode"
    known = all(name in shapes for name in node.input if name)
    missing = [name for name in node.output if name and name not in shapes]
    if known and missing and node.domain in ("", "ai.onnx") and _is_inferred(node.op_type):
        return f"the shape of {missing[0]!r} depends on the data"
    return ""


_FLOATS = tuple(code for name, code in onnx.TensorProto.DataType.items() if name.startswith(("FLOAT8", "FLOAT4")))
_INTEGERS = tuple(onnx.TensorProto.DataType.Value(name) for name in ("INT4", "UINT4", "INT2", "UINT2"))


def _narrow_values(graph: onnx.GraphProto) -> set[str]:
    """Floats of 8 and 4 bits, which TVM rounds in its own way, and integers of less than a byte that are computed."""
    stored = {tensor.name for tensor in graph.initializer}
    names = {tensor.name for tensor in graph.initializer if tensor.data_type in _FLOATS}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS + _INTEGERS and value.name not in stored:
            names.add(value.name)
    return names


def _of_narrow(node: onnx.NodeProto, narrow: set[str]) -> str:
    found = next((name for name in (*node.input, *node.output) if name in narrow), None)
    return "" if found is None else f"{found!r} is of floats of 8 bits, or of numbers of fewer"


def _is_inferred(operator: str) -> bool:
    """Whether the standard says how the shapes of an operator's results follow from its operands."""
    return onnx.defs.has(operator) and onnx.defs.get_schema(operator).has_type_and_shape_inference_function
