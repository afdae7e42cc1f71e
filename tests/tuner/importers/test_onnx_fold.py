"""Shapes that are computed from shapes, and constants of every dtype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.tuner.importers import graphs
from tuner import importers
from tuner.errors import ModelError
from tuner.importers.onnx import clean_proto, load


def _model(nodes: list[onnx.NodeProto], stored: dict[str, object], shape: tuple[int, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "fold",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _cleaned(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    return clean_proto(importers.make_model_spec(graphs.save(model, folder), 1, {}, "original", 0))


def test_shapes_of_reshaped_tensors_are_folded(tmp_path: Path) -> None:
    nodes, name = [], "x"
    for index in range(4):  # each target is half of the shape before it, and so known only after it
        nodes += [
            helper.make_node("Shape", [name], [f"s{index}"]),
            helper.make_node("ReduceProd", [f"s{index}"], [f"all{index}"], keepdims=1),
            helper.make_node("Div", [f"all{index}", "two"], [f"half{index}"]),
            helper.make_node("Concat", [f"half{index}", "two"], [f"t{index}"], axis=0),
            helper.make_node("Reshape", [name, f"t{index}"], [f"r{index}" if index < 3 else "y"]),
        ]
        name = f"r{index}"
    cleaned = _cleaned(_model(nodes, {"two": np.array([2])}, (1, 4, 6)), tmp_path)
    assert {node.op_type for node in cleaned.graph.node} == {"Reshape"}
    assert [dim.dim_value for dim in cleaned.graph.output[0].type.tensor_type.shape.dim] == [12, 2]


def test_five_hundred_nodes_take_two_rounds(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["v0"])]
    nodes += [helper.make_node("Neg" if index % 2 else "Abs", [f"v{index}"], [f"v{index + 1}"]) for index in range(498)]
    nodes.append(helper.make_node("Relu", ["v498"], ["y"]))
    cleaned = _cleaned(_model(nodes, {}, (1, 8)), tmp_path)
    assert len(cleaned.graph.node) == 500


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.int8, np.uint16, np.float16, np.bool_])
def test_constants_keep_dtype_and_rank(dtype: type[np.generic], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["c"], ["same"]),
        helper.make_node("Cast", ["same"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "cast"], ["y"]),
    ]
    model = _model(nodes, {"c": np.array(1, dtype)}, (1, 4))
    model.graph.output.append(helper.make_tensor_value_info("c", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), []))
    module = load(importers.make_model_spec(graphs.save(model, tmp_path), 1, {}, "original", 0)).module
    field = module["main"].ret_ty.fields[1]
    assert (str(field.dtype), len(field.shape)) == (np.dtype(dtype).name, 0)


def test_a_shape_that_depends_on_the_data_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=TensorProto.INT64),
        helper.make_node("Squeeze", ["n"], ["limit"]),
        helper.make_node("Range", ["zero", "limit", "one"], ["range"], name="count"),
        helper.make_node("Cast", ["range"], ["y"], to=TensorProto.FLOAT),
    ]
    source = graphs.save(_model(nodes, {"zero": np.array(0), "one": np.array(1)}, (1, 1)), tmp_path)
    with pytest.raises(ModelError, match=r"operator Range of node 'count' is not supported: .*depends on the data"):
        load(importers.make_model_spec(source, 1, {}, "original", 0))
