"""Models in a newer set of operators compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.tuner.importers import graphs
from tuner.importers.onnx_opset import OPSET, modern


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_softmax_means_what_it_meant(opset: int) -> None:
    proto = graphs.model([helper.make_node("Softmax", ["x"], ["out"], axis=1)], {"x": [2, 5, 1, 3]}, opset=opset)
    newer = onnx.load_model_from_string(modern(proto.SerializeToString()))
    assert newer.opset_import[0].version == OPSET
    values = [np.random.default_rng(0).standard_normal((2, 5, 1, 3), dtype=np.float32)]
    graphs.close(graphs.by_onnxruntime(newer, values), graphs.by_onnxruntime(proto, values), 1e-6)


def test_a_newer_model_and_one_that_cannot_be_converted_stay_as_they_are() -> None:
    for node, opset in (("Relu", OPSET), ("Relu", OPSET + 1), ("NoSuchOperator", 9)):
        data = graphs.model([helper.make_node(node, ["x"], ["out"])], {"x": [2]}, opset=opset).SerializeToString()
        assert modern(data) == data
