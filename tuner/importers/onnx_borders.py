"""The inputs and outputs of an ONNX model in types that numpy has."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from tuner.importers.onnx_clean import rename_inputs
from tuner.importers.onnx_shapes import true_inputs

_INSIDE = "as bfloat16"


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs and outputs of float32 where they are of bfloat16, which numpy and its files do not have.

    Inside nothing changes: an input is rounded first, and every value of an output is one of float32. The model is
    changed in place.
    """
    graph = model.graph
    inputs = [value for value in true_inputs(graph) if _narrow(value)]
    outputs = [value for value in graph.output if _narrow(value)]
    names = {value.name: f"{value.name} {_INSIDE}" for value in (*inputs, *outputs)}
    for node in graph.node:
        rename_inputs(node, names)
        node.output[:] = [names.get(name, name) for name in node.output]
    given = {value.name for value in inputs}
    for value in inputs:
        graph.node.insert(0, helper.make_node("Cast", [value.name], [names[value.name]], to=TensorProto.BFLOAT16))
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in outputs:
        if value.name not in given:
            graph.node.append(helper.make_node("Cast", [names[value.name]], [value.name], to=TensorProto.FLOAT))
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def notes(model: onnx.ModelProto) -> tuple[str, ...]:
    """What `in_float32` changed in the inputs of a model, in words."""
    made = {node.output[0] for node in model.graph.node if node.op_type == "Cast"}
    names = [value.name for value in true_inputs(model.graph) if f"{value.name} {_INSIDE}" in made]
    return tuple(f"input {name} is given as float32, for bfloat16" for name in names)


def _narrow(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.BFLOAT16)
