"""What ONNX Runtime knows of a model: shapes that the inference of the `onnx` package does not tell, and whether a node
runs.

Without ONNX Runtime nothing of it is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tuner.importers.onnx_clean import read_by
from tuner.importers.onnx_fold import infer, without_weights
from tuner.importers.onnx_parts import dtype_of, one_node, types_of
from tuner.importers.onnx_shapes import known_shapes

_STANDARD = ("", "ai.onnx")
_ROUNDS = 8

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
    """Write what follows from what ONNX Runtime knows of operators that are not of the standard, in place.

    Without ONNX Runtime, or where it does not take the model, that is only what is known of a few of them here.
    """
    graph = model.graph
    if all(node.domain in _STANDARD for node in graph.node):
        return
    known = _told_by_runtime(model)
    for _ in range(_ROUNDS):
        infer(model, [helper.make_value_info(name, kind) for name, kind in known.items()])
        shapes, types, more = known_shapes(graph), types_of(graph), False
        for node in graph.node:
            made = node.output[0]
            if node.domain != "ai.onnx.ml" or node.op_type not in _LIKE_OPERAND or node.input[0] not in shapes:
                continue
            code = _LIKE_OPERAND[node.op_type] or (types[made].tensor_type.elem_type if made in types else 0)
            if code and made not in shapes:
                known[made] = helper.make_tensor_type_proto(code, list(shapes[node.input[0]]))
                more = True
        if not more:
            return


def _told_by_runtime(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """The types of the tensors that nodes make, with their shapes where these are static. Of a scalar ONNX Runtime says
    the same as of a shape that it does not know."""
    light = without_weights(model)
    del light.graph.output[:]
    light.graph.output.extend(onnx.ValueInfoProto(name=name) for n in light.graph.node for name in n.output if name)
    session = _session(light.SerializeToString(), optimized=False)
    told = {}
    for value in session.get_outputs() if session is not None else ():
        code = _CODES.get(value.type.removeprefix("tensor(").removesuffix(")"))
        if code is not None:
            static = bool(value.shape) and all(isinstance(extent, int) for extent in value.shape)
            told[value.name] = helper.make_tensor_type_proto(code, value.shape if static else None)
    return told


def computes(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether ONNX Runtime computes a node on some values of the right types and shapes: what it refuses as well is
    wrong, and not only unknown here."""
    stored = {tensor.name for tensor in model.graph.initializer}
    read = [name for name in dict.fromkeys(read_by(node)) if name and name not in stored]
    types, shapes = types_of(model.graph), known_shapes(model.graph)
    dtypes = {name: dtype_of(types[name]) for name in read if name in types and name in shapes}
    if len(dtypes) < len(read) or None in dtypes.values():
        return False
    session = _session(one_node(model, node, read, [name for name in node.output if name]))
    if session is None:
        return False
    given = {name: np.ones(shapes[name], dtype) for name, dtype in dtypes.items()}
    try:
        session.run(None, given)
    except _refusals():
        return False
    return True


def _session(model: bytes, optimized: bool = True) -> Any:
    """A session; None without ONNX Runtime, or where it refuses the model."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # fatal ones only: the reason is of no use here
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _refusals():
        return None


def _refusals() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    return (
        errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented, errors.RuntimeException,
        RuntimeError, ValueError,
    )  # fmt: skip
