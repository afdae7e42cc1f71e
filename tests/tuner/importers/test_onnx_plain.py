"""Models that were made plain compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.tuner.importers import graphs
from tuner.importers.onnx_plain import OPSET, plain


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_softmax_means_what_it_meant(opset: int) -> None:
    proto = graphs.model([helper.make_node("Softmax", ["x"], ["out"], axis=1)], {"x": [2, 5, 1, 3]}, opset=opset)
    newer = onnx.load_model_from_string(plain(proto.SerializeToString()))
    assert newer.opset_import[0].version == OPSET
    values = [np.random.default_rng(0).standard_normal((2, 5, 1, 3), dtype=np.float32)]
    graphs.close(graphs.by_onnxruntime(newer, values), graphs.by_onnxruntime(proto, values), 1e-6)


def test_a_newer_model_and_one_that_cannot_be_converted_stay_as_they_are() -> None:
    for node, opset in (("Relu", OPSET), ("Relu", OPSET + 1), ("NoSuchOperator", 9)):
        data = graphs.model([helper.make_node(node, ["x"], ["out"])], {"x": [2]}, opset=opset).SerializeToString()
        assert plain(data) == data


def test_a_guarded_softmax_is_a_softmax() -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["y"]),
        helper.make_node("IsNaN", ["y"], ["bad"]),
        helper.make_node("Where", ["bad", "zero", "y"], ["safe"]),
        helper.make_node("MatMul", ["safe", "x"], ["product"]),
        helper.make_node("IsNaN", ["product"], ["wrong"]),
        helper.make_node("Where", ["wrong", "zero", "product"], ["out"]),
    ]
    proto = graphs.model(nodes, {"x": [2, 5, 5]}, {"zero": np.zeros((), np.float32)})
    result = onnx.load_model_from_string(plain(proto.SerializeToString()))
    assert [node.op_type for node in result.graph.node] == ["Softmax", "MatMul", "IsNaN", "Where"]
    values = [np.random.default_rng(0).standard_normal((2, 5, 5), dtype=np.float32)]
    graphs.close(graphs.by_onnxruntime(result, values), graphs.by_onnxruntime(proto, values), 1e-6)
