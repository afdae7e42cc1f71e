"""Operators replaced by what the standard defines them by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from tests.tuner.importers import graphs
from tuner.importers import make_model_spec
from tuner.importers.onnx import clean_proto, model_proto
from tuner.importers.onnx_functions import expanded


def test_an_operator_is_replaced_and_computes_the_same(tmp_path: Path) -> None:
    """Its defaults count too, and the axes that its function computes are constants again."""
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["out"])
    scale = np.linspace(0.5, 2, 8, dtype=np.float32)
    proto = graphs.model([node], {"x": (2, 5, 8)}, {"scale": scale}, opset=23)
    model_spec = make_model_spec(graphs.save(proto, tmp_path), 2, {}, "original", 0)
    result = expanded(clean_proto(model_spec), {"Mul", "ReduceMean", "Add", "Sqrt", "Div", "Cast"})
    assert {node.op_type for node in result.graph.node} <= {"Mul", "ReduceMean", "Add", "Sqrt", "Div", "Cast"}
    values = [np.random.default_rng(0).standard_normal((2, 5, 8), dtype=np.float32)]
    graphs.close(graphs.by_onnxruntime(result, values), graphs.by_onnxruntime(model_proto(model_spec), values), 1e-5)


def test_what_is_known_or_no_function_stays(tmp_path: Path) -> None:
    nodes = [helper.make_node("Swish", ["x"], ["y"]), helper.make_node("Det", ["y"], ["out"])]
    proto = graphs.model(nodes, {"x": (2, 3, 3)}, opset=24)
    model = clean_proto(make_model_spec(graphs.save(proto, tmp_path), 2, {}, "original", 0))
    assert expanded(model, {"Swish", "Det"}) is model
    assert [node.op_type for node in expanded(model, {"Mul", "Sigmoid", "Swish"}).graph.node] == ["Swish", "Det"]
