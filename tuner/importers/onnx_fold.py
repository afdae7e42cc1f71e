"""Constant folding, control flow and shape inference, each after the other, until nothing changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import helper

from tuner.importers.onnx_clean import clean
from tuner.importers.onnx_control import resolve
from tuner.importers.onnx_shapes import clear_shapes, known_shapes

_ROUNDS = 32
"""Each round goes over the whole graph; a shape computed from a shape computed from a shape takes three."""

_SMALL = 1024
"""Elements up to which a stored tensor may be an operand that sets a shape."""


def settled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with its constants folded, its known control flow in line and all shapes that follow, in place.

    Its constants must be initializers, and the shapes of its inputs static.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    model = clean(model)
    for _ in range(_ROUNDS):
        before = len(model.graph.node)
        infer(model)
        in_line = resolve(model.graph, known_shapes(model.graph), opset)
        if in_line:
            infer(model)
        model = clean(model)
        if not in_line and len(model.graph.node) == before:
            break
    return model


def infer(model: onnx.ModelProto, known: Sequence[onnx.ValueInfoProto] = ()) -> None:
    """Write the shape and type of every computed tensor that follows from the inputs and from what is `known` of some
    others, in place.

    Large parameters are shown to the inference by their types alone: it copies what it is given.
    """
    graph = model.graph
    light = without_weights(model)
    given = {value.name: value for value in known}
    for output in light.graph.output:
        if output.name in given:
            output.CopyFrom(given.pop(output.name))
    light.graph.value_info.extend(given.values())
    try:
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return  # what is known stays
    del graph.value_info[:]
    graph.value_info.extend(light.graph.value_info)
    for ours, found in zip(graph.output, light.graph.output, strict=True):
        if found.type.HasField("tensor_type") and found.type.tensor_type.HasField("shape"):
            ours.CopyFrom(found)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large parameters are inputs, and outputs have no shapes."""
    graph = model.graph
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.graph.name = graph.name or "main"
    light.graph.node.extend(graph.node)
    light.graph.input.extend(graph.input)
    light.graph.output.extend(graph.output)
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    clear_shapes(output for output in light.graph.output if output.name not in known)
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return light
