"""Simplifying an ONNX graph where that is easiest: before it becomes relax or torch.

Sum becomes a chain of Add, Dropout and Identity are removed, automatic padding becomes explicit, and what
depends on constants alone is computed. Batch norms stay: the graph passes fold them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tuner.importers.onnx_shapes import Shapes, known_shapes
from tuner.importers.onnx_tensors import array_of

FOLDED = frozenset(
    (
        *("Abs", "Add", "And", "Cast", "Ceil", "Concat", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather"),
        *("Greater", "Identity", "Less", "Max", "MelWeightMatrix", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow"),
        *("Range", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Shape"),
        *("Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"),
    )
)
"""Computed ahead by the reference implementation in `onnx`: what shapes and scales are made of. Its
convolutions are slow and its LRN is wrong for small batches, so the list is of what may be trusted."""


_LONGEST_RANGE = 1 << 20
"""Elements of a Range whose size shape inference does not tell, as it does not for half precision."""

_PLAIN_VALUES = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
"""Attributes in which a Constant node can have numbers, besides a tensor."""


def with_constants(model: onnx.ModelProto, drawn: Mapping[str, Callable[[], NDArray[Any]]]) -> onnx.ModelProto:
    """A new model in which Constant and constant ConstantOfShape nodes are initializers.

    `drawn` gives new values for some of them; each is called only when it is stored, so that weights are in
    memory once. Initializers are no longer graph inputs (so that every runtime may fold them), and
    those that no node reads are removed.
    """
    graph = model.graph
    values: dict[str, Callable[[], NDArray[Any]]] = {
        tensor.name: functools.partial(array_of, tensor) for tensor in graph.initializer
    }
    remaining = []
    for node in graph.node:
        value = _constant(node, values)
        if value is None:
            remaining.append(node)
        else:
            values[node.output[0]] = value
    apart = {t.name: t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    used = {name for node in remaining for name in read_by(node)} | {output.name for output in graph.output}
    result = onnx.ModelProto(ir_version=max(model.ir_version, 4))  # before 4, initializers had to be inputs
    result.opset_import.extend(model.opset_import)
    result.graph.name = graph.name
    result.graph.node.extend(remaining)
    result.graph.input.extend(value for value in graph.input if value.name not in values)
    result.graph.output.extend(graph.output)
    result.graph.value_info.extend(graph.value_info)
    for name, value in values.items():
        if name in apart and name in used and name not in drawn:
            result.graph.initializer.append(apart[name])  # where it lies, not what it is
        elif name in used:
            store(result.graph.initializer.add(), name, drawn.get(name, value)())
    return result


def store(tensor: onnx.TensorProto, name: str, values: NDArray[Any]) -> None:
    """Fill an empty tensor; only one copy of `values` is made on the way."""
    if values.dtype.name in ("int4", "uint4", "int2", "uint2"):  # several in a byte
        tensor.CopyFrom(numpy_helper.from_array(values, name))
        return
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.dims.extend(values.shape)
    if values.dtype == object:
        tensor.string_data.extend(str(text).encode() for text in values.flat)
    else:
        tensor.raw_data = values.tobytes()


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model made simpler, in place; its shapes must be inferred and its constants be initializers."""
    graph = model.graph
    shapes = known_shapes(graph)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    read = {name for node in graph.node for name in read_by(node)} | outputs
    renamed: dict[str, str] = {}
    remaining: list[onnx.NodeProto] = []
    for node in graph.node:
        if renamed:
            rename_inputs(node, renamed)
        if _is_pass_through(node, read) and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        elif (values := _folded(node, stored, shapes, opset)) is not None:
            stored.update({tensor.name: tensor for tensor in values})
        elif node.op_type == "Sum" and len(node.input) > 1:
            remaining += _chain_of_add(node)
        else:
            _explicit_padding(node, shapes)
            remaining.append(node)
    used = {name for node in remaining for name in read_by(node)} | outputs
    _replace(graph.node, remaining)
    before = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(t for name, t in stored.items() if name in used and name not in before)
    for index in reversed(range(len(graph.initializer))):  # in place: the weights are not copied
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
    return model


def _is_pass_through(node: onnx.NodeProto, read: set[str]) -> bool:
    if node.op_type == "Dropout":
        mask = any(name in read for name in node.output[1:])
        training = len(node.input) > 2 and node.input[2] != ""
        return not mask and not training
    return node.op_type == "Identity" or (node.op_type == "Sum" and len(node.input) == 1)


def _chain_of_add(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    total, chain = node.input[0], []
    last = len(node.input) - 1
    for index in range(1, len(node.input)):
        result = node.output[0] if index == last else f"{node.output[0]}__sum{index}"
        chain.append(helper.make_node("Add", [total, node.input[index]], [result], name=f"{node.name}__add{index}"))
        total = result
    return chain


def _constant(node: onnx.NodeProto, values: Mapping[str, Callable[[], NDArray[Any]]]) -> Callable[[], Any] | None:
    """What a Constant or ConstantOfShape node stands for, or None when it is neither or not constant."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Constant" and "value" in attributes:
        return functools.partial(numpy_helper.to_array, attributes["value"].t)
    if node.op_type == "Constant" and (kind := next((k for k in _PLAIN_VALUES if k in attributes), "")):
        return functools.partial(np.array, helper.get_attribute_value(attributes[kind]), _PLAIN_VALUES[kind])
    if node.op_type != "ConstantOfShape" or node.input[0] not in values:
        return None
    shape = tuple(values[node.input[0]]())
    fill = numpy_helper.to_array(attributes["value"].t) if "value" in attributes else np.zeros(1, np.float32)
    return functools.partial(np.broadcast_to, fill.reshape(-1)[0], shape)


def _folded(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], shapes: Shapes, opset: int
) -> list[onnx.TensorProto] | None:
    """The outputs of a node that depends on constants alone; None when it does not or cannot be computed."""
    if node.op_type in ("Constant", "ConstantOfShape"):
        given = {name: functools.partial(array_of, stored[name]) for name in node.input if name in stored}
        fill = _constant(node, given)
        return None if fill is None else [numpy_helper.from_array(np.array(fill()), node.output[0])]
    unknown = any(name and name not in shapes for name in node.output)
    if node.op_type not in FOLDED or (unknown and not _is_short_range(node, stored)):
        return None  # an output of unknown size is not worth the risk
    if node.op_type == "Shape" and node.input[0] in shapes:
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        extents = shapes[node.input[0]][bounds.get("start", 0) : bounds.get("end")]
        return [numpy_helper.from_array(np.array(extents, np.int64), node.output[0])]
    if any(name and name not in stored for name in node.input) or any(a.HasField("g") for a in node.attribute):
        return None
    names = [name for name in node.input if name]
    graph = helper.make_graph(
        [node],
        "fold",
        [helper.make_tensor_value_info(n, stored[n].data_type, list(stored[n].dims)) for n in dict.fromkeys(names)],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        values = ReferenceEvaluator(model).run(None, {name: array_of(stored[name]) for name in names})
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError):
        return None  # the reference cannot; the node stays and the backends compute it
    outputs = [name for name in node.output if name]
    return [numpy_helper.from_array(np.ascontiguousarray(v).reshape(np.shape(v)), n)
            for v, n in zip(values, outputs, strict=True)]  # fmt: skip


def _is_short_range(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a node is a Range of a size that is known here, and small."""
    if node.op_type != "Range" or any(name not in stored for name in node.input):
        return False
    start, limit, delta = (float(array_of(stored[name]).reshape(-1)[0]) for name in node.input)
    return delta != 0 and (limit - start) / delta <= _LONGEST_RANGE


def _explicit_padding(node: onnx.NodeProto, shapes: Shapes) -> None:
    """Write the pads that `auto_pad` stands for (formula of the ONNX operator documentation)."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type not in ("Conv", "MaxPool", "AveragePool") or "auto_pad" not in attributes:
        return
    mode = attributes["auto_pad"].s.decode()
    extents = shapes.get(node.input[0], ())[2:]
    if not extents and mode.startswith("SAME"):
        return
    ones = [1] * len(extents)
    kernel = list(attributes["kernel_shape"].ints) if "kernel_shape" in attributes else shapes[node.input[1]][2:]
    strides = list(attributes["strides"].ints) if "strides" in attributes else ones
    dilations = list(attributes["dilations"].ints) if "dilations" in attributes else ones
    explicit = [a for name, a in attributes.items() if name != "auto_pad" and (mode == "NOTSET" or name != "pads")]
    if mode.startswith("SAME"):
        begins, ends = [], []
        for extent, width, stride, dilation in zip(extents, kernel, strides, dilations, strict=True):
            total = max(0, (-(-extent // stride) - 1) * stride + (width - 1) * dilation + 1 - extent)
            small, large = total // 2, total - total // 2
            begins.append(small if mode == "SAME_UPPER" else large)
            ends.append(large if mode == "SAME_UPPER" else small)
        explicit.append(helper.make_attribute("pads", begins + ends))
    _replace(node.attribute, explicit)


def read_by(node: onnx.NodeProto) -> list[str]:
    """The tensors a node reads, those that its subgraphs take from outside included."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names += [name for inner in graph.node for name in read_by(inner)]
            names += [output.name for output in graph.output]
    return names


def rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node, and the nodes of its subgraphs, read other tensors; what a subgraph itself defines is its own."""
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
            own |= {name for inner in graph.node for name in inner.output}
            outer = {name: new for name, new in names.items() if name not in own}
            for inner in graph.node:
                rename_inputs(inner, outer)
            for output in graph.output:
                output.name = outer.get(output.name, output.name)


def _replace(field: object, values: Sequence[object]) -> None:
    """Set a repeated protobuf field."""
    copies = list(values)
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]
