"""What the inputs of an ONNX graph may hold, told by the graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tuner.importers.onnx_shapes import known_shapes, true_inputs
from tuner.importers.use import Use
from tuner.importers.use_rules import RULES
from tuner.importers.uses import Facts, Step, uses_of
from tuner.protocols import Array

_LARGEST = 1 << 22
"""Elements of a constant up to which its values are looked at."""

_MICROSOFT = "com.microsoft"


def input_uses(model: onnx.ModelProto) -> dict[str, Use]:
    """What each input of a model may hold, by name. Its shapes must be inferred."""
    graph = model.graph
    steps = list(_steps(graph, _types(graph)))
    uses = uses_of(steps, _facts(graph), RULES)
    return {value.name: uses.get(value.name, Use()) for value in true_inputs(graph)}


def _steps(graph: onnx.GraphProto, types: dict[str, int]) -> Iterator[Step]:
    """The nodes, those of the graphs inside them in their place: those see the tensors around them."""
    for node in graph.node:
        inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        for body in inner:
            types = {**types, **_types(body)}
            yield from _steps(body, types)
            if node.op_type == "If":
                for ours, theirs in zip(node.output, body.output, strict=False):
                    yield Step("Identity", (theirs.name,), (ours,))
        yield _step(node, types)


def _step(node: onnx.NodeProto, types: dict[str, int]) -> Step:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g")}
    if node.op_type == "Cast":
        attributes["to_bool"] = attributes.get("to") == onnx.TensorProto.BOOL
    for index, name in enumerate(node.input):
        if types.get(name) == onnx.TensorProto.BOOL:
            attributes[f"bool_{index}"] = True
    op = f"ms.{node.op_type}" if node.domain == _MICROSOFT else node.op_type
    return Step(op, tuple(node.input), tuple(node.output), attributes)


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _facts(graph: onnx.GraphProto) -> Facts:
    stored = {tensor.name: tensor for tensor in _stored(graph)}
    shapes = known_shapes(graph)
    made: dict[str, Array | None] = {}

    def constant(name: str) -> Array | None:
        if name not in made:
            tensor = stored.get(name)
            small = tensor is not None and np.prod(tensor.dims, dtype=np.int64) <= _LARGEST
            made[name] = numpy_helper.to_array(tensor) if tensor is not None and small else None
        return made[name]

    return Facts(constant, shapes.get)


def _stored(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The constants of a graph and of those inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _stored(attribute.g)
            elif node.op_type == "Constant" and attribute.name == "value":
                tensor = onnx.TensorProto()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                yield tensor
