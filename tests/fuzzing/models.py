"""ONNX models and cost models: whole samples, and how the program opens them."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np

from tests.fuzzing.base import Files, Refused


@functools.cache
def onnx_models() -> Files:
    from onnx import TensorProto, helper

    from tests.tuner.importers import graphs

    external = graphs.model([helper.make_node("Add", ["x", "w"], ["out"])], {"x": [1, 4]}, {"w": np.ones(4, "f4")})
    [tensor] = external.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "data.bin"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    attention = graphs.model(
        [
            helper.make_node("MatMul", ["x", "q"], ["queries"]),
            helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["queries", "turned"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
            helper.make_node("MatMul", ["weights", "x"], ["mixed"]),
            helper.make_node("LayerNormalization", ["mixed", "scale", "shift"], ["normal"], axis=-1),
            helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
            helper.make_node("Slice", ["filled", "from", "to"], ["cut"]),
            helper.make_node("Add", ["normal", "cut"], ["out"]),
        ],
        {"x": [1, 6, 8]},
        {
            "q": np.ones((8, 8), "f4"), "scale": np.ones(8, "f4"), "shift": np.zeros(8, "f4"), "from": np.array([0]),
            "shape": np.array([2, 8]), "to": np.array([1]),
        },
    )  # fmt: skip
    models = {"conv.onnx": graphs.conv_net(), "attention.onnx": attention, "external.onnx": external}
    return {**{name: model.SerializeToString() for name, model in models.items()}, "data.bin": bytes(16)}


def open_onnx_model(folder: Path, name: str) -> None:
    from tuner import importers

    source = f"onnx:{folder / ('external.onnx' if name == 'data.bin' else name)}"
    for weights in ("random", "original"):
        model = importers.load(source, 1, {}, weights, 0)
        importers.model_inputs(model.inputs, model.model_spec, 0)
        json.dumps([dataclasses.asdict(spec) for spec in model.inputs], allow_nan=False)


@functools.cache
def cost_models() -> Files:
    import tempfile

    from costmodel.xgb import XgbRanker
    from tests.contracts.cost_model import synthetic

    model = XgbRanker("fuzz/1", rounds=4)
    model.fit(*synthetic(64))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model"))
        return {"model.ubj": Path(folder, "model").read_bytes()}


def open_cost_model(folder: Path, name: str) -> None:
    from costmodel.xgb import XgbRanker
    from tests.contracts.cost_model import synthetic

    model = XgbRanker.load(folder / name, "fuzz/1")
    if model is None:
        raise Refused("ignored")
    assert (folder / name).read_bytes() == cost_models()[name]
    model.predict(synthetic(4)[0])
