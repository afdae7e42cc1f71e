"""ONNX models: the nine that `onnx` carries, and a small one, checked against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.contracts.importer import ImporterContract
from tests.tuner.importers import graphs
from tuner import importers
from tuner.errors import ModelError
from tuner.importers.onnx import input_specs, model_proto
from tuner.importers.onnx_clean import clean
from tuner.importers.onnx_file import LIGHT_MODELS
from tuner.importers.onnx_in_torch import to_module


class TestSmallModel(ImporterContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        return graphs.save(graphs.conv_net(), tmp_path)


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_random_weights_agree_in_torch_and_onnxruntime(name: str) -> None:
    source = f"onnx:{name}"
    model_spec = importers.make_model_spec(source, 1, {}, "random", 0)
    proto = importers.onnx_bytes(model_spec)
    specs = input_specs(proto)
    inputs = importers.model_inputs(specs, model_spec, 0)
    expected = graphs.by_onnxruntime(proto, inputs)
    assert all(value.size == 1000 for value in expected)
    spread = np.log(expected[0]) if (expected[0] > 0).all() else expected[0]  # logits, up to a constant
    assert 0.05 < spread.std() < 20, "the outputs are constant or saturated"
    module, tensors = to_module(clean(proto), source, inputs)
    with torch.inference_mode():
        graphs.close([module(*tensors).numpy()], expected, 1e-3)


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_original_weights_give_the_shipped_outputs(name: str) -> None:
    inputs, expected, rtol, atol = importers.original_check(name)
    proto = model_proto(importers.make_model_spec(f"onnx:{name}", 1, {}, "original", 0))
    for output, shipped in zip(graphs.by_onnxruntime(proto, inputs), expected, strict=True):
        np.testing.assert_allclose(output, shipped, rtol=rtol, atol=atol)


def test_same_seed_same_weights() -> None:
    def weights(seed: int) -> list[bytes]:
        proto = model_proto(importers.make_model_spec("onnx:light_squeezenet", 1, {}, "random", seed))
        return [tensor.raw_data for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]

    first = weights(1)
    assert first == weights(1)
    assert all(one != other for one, other in zip(first, weights(2), strict=True))


def test_weights_do_not_depend_on_the_order_in_the_file(tmp_path: Path) -> None:
    proto = graphs.conv_net()
    forward = model_proto(_model_spec(graphs.save(proto, tmp_path)))
    tensors = list(proto.graph.initializer)[::-1]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(tensors)
    backward = model_proto(_model_spec(graphs.save(proto, tmp_path)))
    assert _stored(forward).keys() == _stored(backward).keys()
    for name, value in _stored(forward).items():
        np.testing.assert_array_equal(value, _stored(backward)[name])


def test_batch_reaches_reshapes() -> None:
    """Shufflenet has its batch of one written into 33 reshapes; two images must give what each gives alone."""
    single = importers.make_model_spec("onnx:light_shufflenet", 1, {}, "random", 0)
    double = importers.make_model_spec("onnx:light_shufflenet", 2, {}, "random", 0)
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32)
    [both] = graphs.by_onnxruntime(model_proto(double), [images])
    alone = [graphs.by_onnxruntime(model_proto(single), [images[i : i + 1]])[0] for i in range(2)]
    graphs.close([both], [np.concatenate(alone)], 1e-4)


def test_load_gives_clean_relax(tmp_path: Path) -> None:
    """Only the model's own arithmetic is left, and weights are constants."""
    import tvm
    from tvm import relax

    source = graphs.save(graphs.conv_net(), tmp_path)
    model = importers.load(source, 2, {}, "random", 3)
    assert model.name == "model"
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [("x", (2, 3, 17, 17), "float32")]
    called: list[str] = []

    def note(node: object) -> None:
        if isinstance(node, relax.Call):
            called.append(node.op.name)
            if node.op.name == "relax.nn.conv2d":
                assert isinstance(node.args[1], tvm.ir.GenericConst)
            if node.op.name == "relax.nn.batch_norm":
                assert all(isinstance(parameter, tvm.ir.GenericConst) for parameter in node.args[1:5])

    relax.analysis.post_order_visit(model.module["main"], note)
    assert called.count("relax.nn.conv2d") == 2
    assert "relax.nn.batch_norm" in called
    assert not {"relax.stack", "relax.sum", "relax.broadcast_to", "relax.nn.dropout"}.intersection(called)


def test_cleaning_leaves_only_arithmetic(tmp_path: Path) -> None:
    proto = clean(model_proto(_model_spec(graphs.save(graphs.conv_net(), tmp_path))))
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds == ["Conv", "BatchNormalization", "Mul", "Relu", "Conv", "Add", "Add", "MaxPool", "AveragePool",
                     "Reshape", "Gemm"]  # fmt: skip
    assert list(_stored(proto)[proto.graph.node[9].input[1]]) == [1, -1]


def test_light_model_loads_by_name() -> None:
    model = importers.load("onnx:light_squeezenet", 1, {}, "random", 0)
    assert model.name == "light_squeezenet"
    assert model.inputs[0].shape == (1, 3, 224, 224)
    assert tuple(int(extent) for extent in model.module["main"].ret_ty.shape) == (1, 1000, 1, 1)


def test_integer_inputs_stay_in_their_table(tmp_path: Path) -> None:
    proto = graphs.model(
        [
            onnx.helper.make_node("Gather", ["table", "ids"], ["rows"]),
            onnx.helper.make_node("Cast", ["mask"], ["weights"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Unsqueeze", ["weights", "axis"], ["column"]),
            onnx.helper.make_node("Mul", ["rows", "column"], ["out"]),
        ],
        {"ids": ["batch", "length"], "mask": ["batch", "length"]},
        {"table": np.zeros((11, 4), np.float32), "axis": np.array([2])},
        dtype=onnx.TensorProto.INT64,
    )
    model = importers.load(graphs.save(proto, tmp_path), 3, {"ids": (3, 50)}, "random", 0)
    assert [spec.shape for spec in model.inputs] == [(3, 50), (3, 50)], "the symbol `length` binds both inputs"
    ids, mask = importers.model_inputs(model.inputs, model.model_spec, 0)
    assert ids.min() == 0
    assert ids.max() == 10
    assert set(np.unique(mask)) == {0, 1}
    assert (mask[:, 0] == 1).all()


def test_original_check_knows_only_what_onnx_ships() -> None:
    with pytest.raises(ModelError, match="light_resnet50"):
        importers.original_check("light_resnet51")


def _model_spec(source: str) -> dict[str, object]:
    return importers.make_model_spec(source, 1, {}, "random", 0)


def _stored(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
