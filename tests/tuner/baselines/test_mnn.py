"""What MNN's converter does not know is an error, though its exit code says that all went well."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from tuner.baselines.mnn import Mnn
from tuner.errors import InfrastructureError

pytestmark = pytest.mark.skipif(Mnn(lambda model_spec: b"").unavailable() is not None, reason="MNN is not installed")


def test_a_model_that_is_not_converted_is_an_error() -> None:
    graph = helper.make_graph(
        [helper.make_node("IsNaN", ["x"], ["y"]), helper.make_node("Cast", ["y"], ["out"], to=TensorProto.FLOAT)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InfrastructureError, match="MNN's converter cannot convert the model"):
        Mnn(lambda model_spec: model).load({}, 1)
