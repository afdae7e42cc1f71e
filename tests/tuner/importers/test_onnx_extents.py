"""The shapes of an ONNX graph's inputs, from what is stored and what the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.tuner.importers import graphs
from tuner import importers
from tuner.errors import ModelError
from tuner.importers.onnx_extents import Extent, fixed_shapes

Stored = Mapping[str, list[Extent]]


def _fixed(stored: Stored, batch: int | None = None, **given: Any) -> dict[str, tuple[int, ...]]:
    return fixed_shapes(stored, "onnx:m", batch, given.get("inputs", {}), given.get("dims", {}))


@pytest.mark.parametrize(
    ("stored", "given", "shapes"),
    [
        ({"x": [3, 32, 32]}, {}, [(3, 32, 32)]),
        ({"x": [8, 64]}, {}, [(8, 64)]),
        ({"x": [1, 64]}, {"batch": 4}, [(4, 64)]),
        ({"x": [None, 3, 8]}, {}, [(1, 3, 8)]),
        ({"x": ["unk__214", 2048], "y": ["DynamicDimension.0", 3]}, {"batch": 2}, [(2, 2048), (2, 3)]),
        ({"x": ["s6", 80, 800]}, {"dims": {"s6": 3}}, [(3, 80, 800)]),
        ({"x": ["batch", 16], "state": [2, "batch", 32]}, {"batch": 4}, [(4, 16), (2, 4, 32)]),
        ({"x": ["N", 16], "t": ["N", 1]}, {"inputs": {"x": (5, 16)}}, [(5, 16), (5, 1)]),
        ({"ids": ["batch", "seq"], "mask": ["batch", "seq"]}, {"dims": {"seq": 9}}, [(1, 9), (1, 9)]),
        ({"x": [1, 4], "past": [1, 0, 4]}, {}, [(1, 4), (1, 0, 4)]),
        ({"past": ["batch", "length", 4]}, {"dims": {"length": 0}}, [(1, 0, 4)]),
    ],
)
def test_shapes(stored: Stored, given: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    assert list(_fixed(stored, **given).values()) == shapes


@pytest.mark.parametrize(
    ("stored", "given", "words"),
    [
        ({"ids": ["batch", "seq"]}, {}, r"model.dims: \{seq: 128\} or model.inputs.ids: \[1, 128\]"),
        ({"x": ["seq", 1, 16]}, {}, r"model.dims: \{seq: 128\}"),
        ({"x": [None, 3, None]}, {}, r"model.inputs.x: \[1, 3, 128\]"),
        ({"x": ["seq", 2]}, {"dims": {"sek": 3}}, "did you mean 'seq'"),
        ({"x": ["N", 2], "t": ["N"]}, {"inputs": {"x": (2, 2), "t": (3,)}}, "N is 3 here and 2 elsewhere"),
        ({"x": ["N", 2]}, {"inputs": {"x": (2,)}}, "1 dimensions, the model has 2"),
    ],
)
def test_refusals(stored: Stored, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        _fixed(stored, **given)


def test_what_a_batch_broke_is_told_with_the_line_to_write(tmp_path: Path) -> None:
    weights = np.zeros((8, 3, 3, 3), np.float32)
    proto = graphs.model(
        [helper.make_node("Unsqueeze", ["x", "front"], ["b"]), helper.make_node("Conv", ["b", "w"], ["out"])],
        {"x": [3, 32, 32]}, {"front": np.array([0]), "w": weights},
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"model.batch made 3 2; without it: model.inputs.x: \[3, 32, 32\]"):
        importers.load(graphs.save(proto, tmp_path), 2, {}, "original", 0)


def test_extents_that_an_exporter_left_negative_are_unknown(tmp_path: Path) -> None:
    """Paddle writes -1 for a batch, also for what nothing reads and for what an If computes."""
    inside = {"Relu": helper.make_node("Relu", ["x"], ["a"]), "Neg": helper.make_node("Neg", ["x"], ["b"])}
    branches = [
        helper.make_graph([node], op, [], [helper.make_tensor_value_info(node.output[0], 1, [-1, 4])])
        for op, node in inside.items()
    ]
    proto = graphs.model(
        [
            helper.make_node("If", ["yes"], ["chosen"], then_branch=branches[0], else_branch=branches[1]),
            helper.make_node("Identity", ["chosen"], ["out"]),
        ],
        {"x": [-1, 4]}, {"yes": np.array(True)},
    )  # fmt: skip
    proto.graph.value_info.append(helper.make_tensor_value_info("chosen", 1, [-1, 4]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", 1, [-1, 4]))
    model = importers.load(graphs.save(proto, tmp_path), 2, {}, "original", 0)
    assert [spec.shape for spec in model.inputs] == [(2, 4)]
