"""Shapes behind a Loop that is not known at import: a state keeps its shape where the body keeps it."""

from __future__ import annotations

import onnx
from onnx import helper

from tuner.importers.onnx_clean import read_by
from tuner.importers.onnx_fold import try_to_infer
from tuner.importers.onnx_parts import types_of
from tuner.importers.onnx_shapes import known_shapes


def kept_by_loops(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """The types of the states behind the loops of a graph, by name, where the body returns them in the shapes in which
    it is given them. The standard lets a state change its shape from trip to trip: its inference tells none."""
    types = {**types_of(model.graph), **_stored(model.graph)}
    shapes = known_shapes(model.graph)
    found: dict[str, onnx.TypeProto] = {}
    for node in model.graph.node:
        body = next((attribute.g for attribute in node.attribute if attribute.name == "body"), None)
        if node.op_type != "Loop" or node.domain not in ("", "ai.onnx") or body is None:
            continue
        states = list(node.input[2:])
        if all(name in shapes and name in types for name in states):
            found |= _kept(model, body, states, list(node.output), types)
    return found


def _kept(
    model: onnx.ModelProto, body: onnx.GraphProto, states: list[str], outputs: list[str],
    types: dict[str, onnx.TypeProto],
) -> dict[str, onnx.TypeProto]:  # fmt: skip
    trip = onnx.ModelProto(ir_version=model.ir_version)
    trip.opset_import.extend(model.opset_import)
    trip.graph.CopyFrom(body)
    for value, name in zip(trip.graph.input[2:], states, strict=True):
        value.type.CopyFrom(types[name])
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    own |= {name for node in body.node for name in node.output}
    captured = dict.fromkeys(name for node in body.node for name in read_by(node) if name in types and name not in own)
    trip.graph.input.extend(helper.make_value_info(name, types[name]) for name in captured)
    try_to_infer(trip)
    shapes = known_shapes(trip.graph)
    before = known_shapes(onnx.GraphProto(input=[helper.make_value_info(name, types[name]) for name in states]))
    returned = [output.name for output in trip.graph.output[1:]]
    if any(shapes.get(made) != before[state] for state, made in zip(states, returned, strict=False)):
        return {}
    return {output: types[state] for state, output in zip(states, outputs, strict=False) if output}


def _stored(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto]:
    return {t.name: helper.make_tensor_type_proto(t.data_type, list(t.dims)) for t in graph.initializer}
