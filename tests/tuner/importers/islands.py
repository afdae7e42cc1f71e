"""Small ONNX models of which a part cannot be lowered: what the tests of islands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

IMAGES = ["n", "c", "h", "w"]


def value(name: str, shape: Sequence[int | str | None], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[Any]],
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    opsets = [helper.make_opsetid(domain, version) for domain, version in ({"": 13} | dict(domains or {})).items()]
    return helper.make_model(
        helper.make_graph(list(nodes), "small", list(inputs), list(outputs), stored), opset_imports=opsets, ir_version=8
    )


def weights(*shape: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(list(shape))
    drawn: NDArray[np.float32] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return drawn


def detector() -> onnx.ModelProto:
    """Boxes and scores by convolutions, and a NonMaxSuppression that chooses among them."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["features"]),
        helper.make_node("Conv", ["features", "wb"], ["b"]),
        helper.make_node("Conv", ["features", "ws"], ["s"]),
        helper.make_node("Reshape", ["b", "four"], ["b2"]),
        helper.make_node("Transpose", ["b2"], ["boxes"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["s", "two"], ["s2"]),
        helper.make_node("Sigmoid", ["s2"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["chosen"], name="nms"),
        helper.make_node("Gather", ["chosen", "last"], ["column"], axis=1),
        helper.make_node("Squeeze", ["column", "last_axis"], ["index"]),
        helper.make_node("Squeeze", ["boxes", "first_axis"], ["plain"]),
        helper.make_node("Gather", ["plain", "index"], ["picked"]),
    ]
    constants = {
        "w1": weights(8, 3, 3, 3), "wb": weights(4, 8, 1, 1), "ws": weights(2, 8, 1, 1),
        "four": np.array([1, 4, 64]), "two": np.array([1, 2, 64]), "most": np.array([5]),
        "iou": np.array([0.5], np.float32), "least": np.array([0.4], np.float32), "last": np.array([2]),
        "last_axis": np.array([1]), "first_axis": np.array([0]),
    }  # fmt: skip
    outputs = [value("picked", [None, 4]), value("chosen", [None, 3], TensorProto.INT64), value("scores", [1, 2, 64])]
    return model(nodes, [value("x", [1, 3, 16, 16])], outputs, constants)


def positions() -> onnx.ModelProto:
    """NonZero in the middle, whose number of rows a mean removes: there is something to tune on both sides."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r"]),
        helper.make_node("ReduceMax", ["r"], ["largest"], axes=[1], keepdims=0),
        helper.make_node("Greater", ["largest", "least"], ["here"]),
        helper.make_node("NonZero", ["here"], ["where"]),
        helper.make_node("Transpose", ["where"], ["rows"], perm=[1, 0]),
        helper.make_node("Transpose", ["r"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("GatherND", ["last", "rows"], ["found"]),
        helper.make_node("ReduceMean", ["found"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("MatMul", ["mean", "w2"], ["d"]),
        helper.make_node("Relu", ["d"], ["dr"]),
        helper.make_node("MatMul", ["dr", "w3"], ["y"]),
    ]
    constants = {"w1": weights(16, 3, 3, 3), "w2": weights(16, 512), "w3": weights(512, 10)}
    outputs = [value("y", [1, 10]), value("rows", [None, 3], TensorProto.INT64)]
    return model(nodes, [value("x", [1, 3, 12, 12])], outputs, {**constants, "least": np.array(1.0, np.float32)})


def branches() -> onnx.ModelProto:
    """An If on an input between two convolutions; its branches read what is around them."""

    def branch(operator: str) -> onnx.GraphProto:
        inner = helper.make_node(operator, ["r"], [f"by_{operator}"])
        return helper.make_graph([inner], operator, [], [value(f"by_{operator}", IMAGES)])

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r"]),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=branch("Sin"), else_branch=branch("Cos")),
        helper.make_node("Add", ["chosen", "r"], ["s"]),
        helper.make_node("Conv", ["s", "w2"], ["y"]),
    ]
    inputs = [value("x", [1, 3, 12, 12]), value("flag", [], TensorProto.BOOL)]
    return model(nodes, inputs, [value("y", IMAGES)], {"w1": weights(8, 3, 3, 3), "w2": weights(8, 8, 3, 3)})


def refined() -> onnx.ModelProto:
    """A Loop that goes on while a sum is large, which keeps the shape of its state, between two products."""
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "r"], ["next"]),
            helper.make_node("ReduceSum", ["next"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "least"], ["goes"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("state", ["n", "c"])],
        [value("goes", [], TensorProto.BOOL), value("next", ["n", "c"])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["r"]),
        helper.make_node("Loop", ["most", "", "r"], ["last"], body=body),
        helper.make_node("MatMul", ["last", "w2"], ["y"]),
    ]
    constants = {
        "w1": weights(32, 64), "w2": weights(64, 16), "most": np.array(6), "least": np.array(20.0, np.float32),
    }  # fmt: skip
    return model(nodes, [value("x", [4, 32])], [value("y", [4, 16])], constants)


def sequences() -> onnx.ModelProto:
    """A tensor that is split into a sequence, of which one is read again; the sequence is an output, too."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("SplitToSequence", ["c1", "eight"], ["halves"], axis=1),
        helper.make_node("SequenceAt", ["halves", "one"], ["half"]),
        helper.make_node("Conv", ["half", "w2"], ["y"]),
    ]
    halves = helper.make_tensor_sequence_value_info("halves", TensorProto.FLOAT, IMAGES)
    constants = {"w1": weights(16, 3, 3, 3), "w2": weights(4, 8, 3, 3), "eight": np.array(8), "one": np.array(1)}
    return model(nodes, [value("x", [1, 3, 12, 12])], [value("y", IMAGES), halves], constants)


def words() -> onnx.ModelProto:
    """Texts in, texts out: a table lookup, two products, and the name of the largest; with operators of ai.onnx.ml."""
    ml = "ai.onnx.ml"
    nodes = [
        helper.make_node(
            "LabelEncoder", ["word"], ["id"], domain=ml, keys_strings=["a", "b", "ü"], values_int64s=[0, 1, 2],
            default_int64=0,
        ),
        helper.make_node("Gather", ["table", "id"], ["rows"]),
        helper.make_node("Reshape", ["rows", "flat"], ["row"]),
        helper.make_node("Scaler", ["x"], ["scaled"], domain=ml, offset=[0.5], scale=[2.0]),
        helper.make_node("Concat", ["row", "scaled"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "w1"], ["d"]),
        helper.make_node("Relu", ["d"], ["dr"]),
        helper.make_node("MatMul", ["dr", "w2"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "best"], ["label"]),
        helper.make_node("ZipMap", ["logits"], ["named"], domain=ml, classlabels_int64s=[3, 4, 5]),
    ]  # fmt: skip
    constants = {
        "table": weights(3, 16), "flat": np.array([4, 64]), "w1": weights(72, 64), "w2": weights(64, 3),
        "names": np.array(["cat", "dog", "übel"], object),
    }  # fmt: skip
    inputs = [value("word", [4, 4], TensorProto.STRING), value("x", [4, 8])]
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, number))
    named = helper.make_value_info("named", maps)
    outputs = [value("label", [4], TensorProto.STRING), value("logits", [4, 3]), named]
    return model(nodes, inputs, outputs, constants, {ml: 2})


ALL = {
    "detector": detector, "positions": positions, "branches": branches, "refined": refined, "sequences": sequences,
    "words": words,
}  # fmt: skip
