"""What ONNX Runtime knows of a model: shapes that the inference of the `onnx` package does not tell, and whether a node
runs.

Without ONNX Runtime nothing of it is known.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from typing import Any

import onnx
from onnx import TensorProto, helper

from tuner.importers.onnx_answers import answered
from tuner.importers.onnx_clean import read_by
from tuner.importers.onnx_fold import try_to_infer
from tuner.importers.onnx_loops import kept_by_loops
from tuner.importers.onnx_parts import one_node, types_of
from tuner.importers.onnx_shapes import known_shapes, without_weights
from tuner.process.limits import for_compilers
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

_STANDARD = ("", "ai.onnx")
_ROUNDS = 8
_ANSWER_S = 60.0

_LIKE_OPERAND = {
    "Binarizer": TensorProto.FLOAT, "Imputer": 0, "LabelEncoder": 0, "Normalizer": TensorProto.FLOAT,
    "Scaler": TensorProto.FLOAT,
}  # fmt: skip
"""Operators of ai.onnx.ml whose result has the shape of their operand, with its type where it is always the same."""

_CODES = {
    "bool": TensorProto.BOOL, "double": TensorProto.DOUBLE, "float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
}  # fmt: skip
"""Types of tensors by the names that ONNX Runtime has for them."""


def complete(model: onnx.ModelProto) -> None:
    """Write the shapes that the inference of the `onnx` package leaves out, in place: what follows from what ONNX
    Runtime knows of operators that are not of the standard, from what is known of a few of them here, and from loops.
    """
    graph = model.graph
    others = any(node.domain not in _STANDARD for node in graph.node)
    known = _told_by_runtime(model) if others else {}
    for _ in range(_ROUNDS):
        if known:
            try_to_infer(model, [helper.make_value_info(name, kind) for name, kind in known.items()])
        shapes = known_shapes(graph)
        more = {name: kind for name, kind in {**_like_operands(model), **kept_by_loops(model)}.items()
                if name not in shapes}  # fmt: skip
        if not more:
            return
        known |= more


def _like_operands(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """The types of what operators of `_LIKE_OPERAND` make, where they are known."""
    shapes, types = known_shapes(model.graph), types_of(model.graph)
    found = {}
    for node in model.graph.node:
        if node.domain == "ai.onnx.ml" and node.op_type in _LIKE_OPERAND and node.input[0] in shapes:
            made = node.output[0]
            code = _LIKE_OPERAND[node.op_type] or (types[made].tensor_type.elem_type if made in types else 0)
            if code:
                found[made] = helper.make_tensor_type_proto(code, list(shapes[node.input[0]]))
    return found


def computes(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether ONNX Runtime computes a node on some values of the right types and shapes: what it refuses as well is
    wrong, and not only unknown here."""
    stored = {tensor.name for tensor in model.graph.initializer}
    read = [name for name in dict.fromkeys(read_by(node)) if name and name not in stored]
    types, shapes = types_of(model.graph), known_shapes(model.graph)
    if any(name not in types or name not in shapes for name in read):
        return False
    return bool(_asked("computes", one_node(model, node, read, [name for name in node.output if name])))


def _told_by_runtime(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """The types of the tensors that nodes make, with their shapes where these are static. Of a scalar ONNX Runtime says
    the same as of a shape that it does not know."""
    light = without_weights(model)
    del light.graph.output[:]
    light.graph.output.extend(onnx.ValueInfoProto(name=name) for n in light.graph.node for name in n.output if name)
    told = {}
    for name, kind, shape in _asked("types", light.SerializeToString()) or ():
        code = _CODES.get(kind.removeprefix("tensor(").removesuffix(")"))
        if code is not None:
            static = bool(shape) and all(isinstance(extent, int) for extent in shape)
            told[name] = helper.make_tensor_type_proto(code, shape if static else None)
    return told


def _asked(question: str, model: bytes) -> Any:
    """What ONNX Runtime answers in a child, since a model may crash it; None where it does not."""
    with tempfile.NamedTemporaryFile(suffix=".onnx", prefix="tuner-") as file:
        file.write(model)
        file.flush()
        if multiprocessing.current_process().daemon:  # a child already, which may not have children
            return answered(question, file.name)
        with Child("tuner.importers.onnx_answers:RuntimeAnswers", limits=for_compilers()) as child:
            try:
                return child.call(question, _ANSWER_S, path=file.name)
            except (ChildDied, ChildTimeout, ChildError):
                return None
