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


@pytest.mark.parametrize(
    ("kind", "attributes", "lengths"),
    [
        ("GRU", {"direction": "bidirectional", "linear_before_reset": 1}, [3, STEPS]),
        ("GRU", {"direction": "reverse"}, None),
        ("GRU", {"clip": 0.3}, [1, 4]),
        ("LSTM", {"direction": "bidirectional"}, [STEPS, 2]),
        ("LSTM", {"input_forget": 1, "direction": "reverse"}, None),
        ("LSTM", {"clip": 0.2}, None),
        ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.3]}, None),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}, [2, 2]),
    ],
)
def test_forms_that_torch_has_not_are_loops(
    kind: str, attributes: dict[str, Any], lengths: list[int] | None, tmp_path: Path
) -> None:
    directions, gates = (
        2 if attributes.get("direction") == "bidirectional" else 1,
        {"LSTM": 4, "GRU": 3, "RNN": 1}[kind],
    )
    inner = gates * HIDDEN
    constants = {
        "w": values(directions, inner, WIDTH), "r": values(directions, inner, HIDDEN),
        "b": values(directions, 2 * inner), "h": values(directions, BATCH, HIDDEN),
    }  # fmt: skip
    names = ["x", "w", "r", "b", "" if lengths is None else "lengths", "h"]
    if lengths is not None:
        constants["lengths"] = np.array(lengths, np.int32)
    if kind == "LSTM":
        constants |= {"c": values(directions, BATCH, HIDDEN), "p": values(directions, 3 * HIDDEN)}
        names += ["c", "p"]
    outputs = ["y", "last", "cell"] if kind == "LSTM" else ["y", "last"]
    node = helper.make_node(kind, names, outputs, hidden_size=HIDDEN, **attributes)
    proto = graphs.model([node], {"x": (STEPS, BATCH, WIDTH)}, constants, outputs)
    x = values(STEPS, BATCH, WIDTH)
    graphs.close(by_torch(proto, x, tmp_path), graphs.by_onnxruntime(proto, [x]), 1e-5)


def test_the_batch_first(tmp_path: Path) -> None:
    """ONNX Runtime has no such layout, so the same values are turned by hand."""
    x, constants = values(STEPS, BATCH, WIDTH), {"w": values(1, 12, WIDTH), "r": values(1, 12, HIDDEN)}
    answers = []
    for layout, data in ((0, x), (1, x.transpose(1, 0, 2).copy())):
        node = helper.make_node("GRU", ["x", "w", "r"], ["y", "last"], hidden_size=HIDDEN, layout=layout)
        proto = graphs.model([node], {"x": data.shape}, constants, ("y", "last"))
        answers.append(by_torch(proto, data, tmp_path))
    (y, last), (turned, turned_last) = answers
    graphs.close([turned, turned_last], [y.transpose(2, 0, 1, 3), last.transpose(1, 0, 2)], 1e-6)


def test_an_unknown_activation_is_refused_by_name(tmp_path: Path) -> None:
    constants = {"w": values(1, 4, WIDTH), "r": values(1, 4, HIDDEN)}
    node = helper.make_node("RNN", ["x", "w", "r"], ["out"], hidden_size=HIDDEN, activations=["Cosine"])
    proto = graphs.model([node], {"x": (STEPS, BATCH, WIDTH)}, constants)
    with pytest.raises(ModelError, match="the activation 'cosine'"):
        by_torch(proto, values(STEPS, BATCH, WIDTH), tmp_path)
