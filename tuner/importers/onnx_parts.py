"""The parts of a cut ONNX model as models of their own: the tuned ones side by side, and each island by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from tuner.importers.onnx_clean import read_by, rename_inputs
from tuner.importers.onnx_cut import Cut
from tuner.importers.onnx_tensors import complete

Types = Mapping[str, onnx.TypeProto]


@dataclass(frozen=True)
class Part:
    """A part with the names of the values that it takes from outside and of those that others read of it."""

    cut: Cut
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def parts_of(graph: onnx.GraphProto, cuts: Sequence[Cut]) -> list[Part]:
    """What crosses between the parts of a graph."""
    stored = {tensor.name for tensor in graph.initializer}
    values = {value.name for value in graph.input} | {name for node in graph.node for name in node.output if name}
    read = [dict.fromkeys(n for number in cut.nodes for n in read_by(graph.node[number])) for cut in cuts]
    parts = []
    for index, cut in enumerate(cuts):
        made = [name for number in cut.nodes for name in graph.node[number].output if name]
        wanted = {output.name for output in graph.output}.union(*(read[i] for i in range(len(cuts)) if i != index))
        inputs = [name for name in read[index] if name in values and name not in stored and name not in made]
        parts.append(Part(cut, tuple(inputs), tuple(name for name in made if name in wanted)))
    return parts


def side_by_side(model: onnx.ModelProto, parts: Sequence[Part]) -> onnx.ModelProto:
    """The tuned parts in one model. Its inputs are those of the parts, part by part, and so are its outputs.

    What one part takes from another is an input of its own name, so that the parts have nothing in common.
    """
    graph, types = model.graph, types_of(model.graph)
    taken = set(types) | {tensor.name for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    outputs: list[str] = []
    for part in parts:
        names = {name: _fresh(name, taken) for name in part.inputs}
        inputs += [helper.make_value_info(names[name], types[name]) for name in part.inputs]
        outputs += part.outputs
        for number in part.cut.nodes:
            node = onnx.NodeProto()
            node.CopyFrom(graph.node[number])
            rename_inputs(node, names)
            nodes.append(node)
    return _model(model, nodes, inputs, [_value(name, types) for name in outputs])


def island(model: onnx.ModelProto, part: Part, crossing: Types) -> bytes:
    """An island as an ONNX model. `crossing` has types that are known better than the graph says."""
    types = {**types_of(model.graph), **crossing}
    nodes = [model.graph.node[number] for number in part.cut.nodes]
    inputs = [_value(name, types) for name in part.inputs]
    made = complete(_model(model, nodes, inputs, [_value(name, types) for name in part.outputs]))
    return bytes(made.SerializeToString())


def one_node(model: onnx.ModelProto, node: onnx.NodeProto, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """A node as an ONNX model that takes `inputs`, whose types are known, and has the other tensors that it reads."""
    types = types_of(model.graph)
    made = _model(model, [node], [_value(name, types) for name in inputs], [_value(name, types) for name in outputs])
    return bytes(complete(made).SerializeToString())


def dtype_of(value: onnx.TypeProto) -> str | None:
    """The dtype of a tensor, or of the tensors of a sequence, as numpy names it; None for anything else."""
    tensor = value.sequence_type.elem_type.tensor_type if value.HasField("sequence_type") else value.tensor_type
    if tensor.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return None
    return str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))


def types_of(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto]:
    """The types of all values, as far as they are known."""
    return {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}


def _value(name: str, types: Types) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, types[name]) if name in types else helper.make_empty_tensor_value_info(name)


def _model(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
) -> onnx.ModelProto:  # fmt: skip
    """Some nodes of a model, with what they read of its initializers."""
    made = onnx.ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    made.graph.name = model.graph.name or "main"
    made.graph.node.extend(nodes)
    made.graph.input.extend(inputs)
    made.graph.output.extend(outputs)
    read = {name for node in nodes for name in read_by(node)}
    made.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    return made


def _fresh(name: str, taken: set[str]) -> str:
    """A name that is in no use, for an input of a part."""
    number, made = 0, f"{name}__in"
    while made in taken:
        number, made = number + 1, f"{name}__in{number}"
    taken.add(made)
    return made
