"""What pnnx writes is read right; what it cannot convert is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from tuner.baselines.ncnn import OPTIONS, Blob, Ncnn, blobs
from tuner.errors import InfrastructureError

SCRIPT = """
            ex.input("in0", ncnn.Mat(in0.numpy(), batch_index=1).clone())
            ex.input("in1", ncnn.Mat(in1.numpy()).clone())
            _, out0 = ex.extract("out0")
            out.append(torch.from_numpy(out0.numpy(batch_index=1)))
            _, out1 = ex.extract("out1")
            out.append(torch.from_numpy(out1.numpy()))
"""


def one_node(op: str, shape: list[int], kind: int = TensorProto.FLOAT) -> Any:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"]), helper.make_node("Cast", ["y"], ["out"], to=TensorProto.FLOAT)],
        "one",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_batch_axes_are_read_from_pnnx_s_example() -> None:
    assert blobs(SCRIPT) == ([Blob("in0", 1), Blob("in1", 233)], [Blob("out0", 1), Blob("out1", 233)])


def test_the_options_are_ones_that_this_version_has() -> None:
    """pybind11 objects take any attribute; an option that was renamed would do nothing."""
    ncnn = pytest.importorskip("ncnn")
    assert all(hasattr(ncnn.Option(), option) for option in OPTIONS)
    unset = {name for name in dir(ncnn.Option()) if "fp16" in name or "bf16" in name or "winograd" in name}
    assert unset <= OPTIONS.keys(), "an option of a precision or an algorithm that is left to chance"


@pytest.mark.skipif(Ncnn(lambda model_spec: b"").unavailable() is not None, reason="ncnn or pnnx is not installed")
class TestConversion:
    def test_a_batch_is_computed(self) -> None:
        prepared = Ncnn(lambda model_spec: one_node("Relu", [3, 2, 4, 4])).load({}, 1)
        values = np.random.default_rng(0).standard_normal((3, 2, 4, 4), dtype=np.float32)
        running = prepared.prepare([values])
        running.launch(1)
        np.testing.assert_array_equal(running.outputs()[0], np.maximum(values, 0))

    def test_an_operator_without_a_form_is_named(self) -> None:
        with pytest.raises(InfrastructureError, match=r"ncnn has no form for IsNaN, Tensor\.to"):
            Ncnn(lambda model_spec: one_node("IsNaN", [1, 8])).load({}, 1)

    def test_what_is_no_model_is_refused(self) -> None:
        with pytest.raises(InfrastructureError, match="pnnx cannot convert the model"):
            Ncnn(lambda model_spec: ModelProto(ir_version=8)).load({}, 1)
