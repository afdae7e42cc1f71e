"""Recurrent layers and Fourier transforms in their torch form, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from tests.tuner.importers import graphs
from tuner.errors import ModelError
from tuner.importers import make_model_spec
from tuner.importers.onnx import clean_proto
from tuner.importers.onnx_in_torch import to_module

RNG = np.random.default_rng(0)
STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 3, 4


def values(*shape: int) -> graphs.Value:
    return RNG.standard_normal(shape, dtype=np.float32)


def by_torch(proto: Any, x: graphs.Value, folder: Path) -> list[graphs.Value]:
    spec = make_model_spec(graphs.save(proto, folder), None, {}, "original", 0)
    module, _ = to_module(clean_proto(spec), spec["source"], [x])
    with torch.inference_mode():
        result = module(torch.from_numpy(x))
    return [part.numpy() for part in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    ("kind", "gates", "attributes"),
    [
        ("LSTM", 4, {}),
        ("GRU", 3, {"linear_before_reset": 1}),
        ("RNN", 1, {}),
        ("RNN", 1, {"activations": ["Relu"]}),
    ],
)
def test_layers(kind: str, gates: int, directions: int, attributes: dict[str, Any], tmp_path: Path) -> None:
    inner = gates * HIDDEN
    constants = {
        "w": values(directions, inner, WIDTH), "r": values(directions, inner, HIDDEN),
        "b": values(directions, 2 * inner), "h": values(directions, BATCH, HIDDEN),
    }  # fmt: skip
    if "activations" in attributes:
        attributes = {"activations": attributes["activations"] * directions}
    outputs = ["y", "last", "cell"] if kind == "LSTM" else ["y", "last"]
    node = helper.make_node(
        kind, ["x", "w", "r", "b", "", "h"], outputs, hidden_size=HIDDEN,
        direction="bidirectional" if directions == 2 else "forward", **attributes,
    )  # fmt: skip
    proto = graphs.model([node], {"x": (STEPS, BATCH, WIDTH)}, constants, outputs)
    x = values(STEPS, BATCH, WIDTH)
    graphs.close(by_torch(proto, x, tmp_path), graphs.by_onnxruntime(proto, [x]), 1e-5)


@pytest.mark.parametrize("attributes", [{}, {"onesided": 1}, {"inverse": 1}])
def test_fourier_transform(attributes: dict[str, Any], tmp_path: Path) -> None:
    x = values(2, 8, 1) if "inverse" not in attributes else values(2, 8, 2)
    proto = graphs.model([helper.make_node("DFT", ["x"], ["out"], axis=1, **attributes)], {"x": x.shape})
    graphs.close(by_torch(proto, x, tmp_path), graphs.by_onnxruntime(proto, [x]), 1e-5)


def test_other_forms_are_refused_by_name(tmp_path: Path) -> None:
    constants = {"w": values(1, 12, WIDTH), "r": values(1, 12, HIDDEN)}
    node = helper.make_node("GRU", ["x", "w", "r"], ["out"], hidden_size=HIDDEN)
    proto = graphs.model([node], {"x": (STEPS, BATCH, WIDTH)}, constants)
    with pytest.raises(ModelError, match="a GRU that resets before its product"):
        by_torch(proto, values(STEPS, BATCH, WIDTH), tmp_path)
