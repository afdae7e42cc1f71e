"""Inputs and outputs of bfloat16, which numpy does not have."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.tuner.importers import graphs
from tests.tuner.importers.onnx_relax.running import by_converter
from tuner import importers
from tuner.importers.onnx import clean_proto, load


def _value(name: str, kind: int = TensorProto.BFLOAT16) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, (2, 3))


def _saved(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], folder: Path) -> str:
    stored = [numpy_helper.from_array(np.ones((), ml_dtypes.bfloat16), "one")]
    inputs = [_value("x"), _value("c", TensorProto.BOOL)]
    graph = helper.make_graph(nodes, "narrow", inputs, outputs, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return graphs.save(made, folder)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """y = x + 1 in bfloat16; z is y where c, else x. y is an output that is read inside, too."""
    nodes = [helper.make_node("Add", ["x", "one"], ["y"]), helper.make_node("Where", ["c", "y", "x"], ["z"])]
    return _saved(nodes, [_value("y"), _value("z")], tmp_path)


def test_they_are_of_float32_and_the_inside_is_rounded(source: str) -> None:
    spec = importers.make_model_spec(source, None, {}, "original", 0)
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((2, 3), dtype=np.float32), rng.random((2, 3)) < 0.5
    narrow = x.astype(ml_dtypes.bfloat16)
    y = (narrow + ml_dtypes.bfloat16(1)).astype(np.float32)
    assert (y != x + 1).any()
    made = by_converter(clean_proto(spec), {"x": x, "c": c})
    assert [array.dtype for array in made] == [np.float32, np.float32]
    np.testing.assert_array_equal(made[0], y)
    np.testing.assert_array_equal(made[1], np.where(c, y, narrow.astype(np.float32)))


def test_the_run_says_so(source: str) -> None:
    model = load(importers.make_model_spec(source, None, {}, "original", 0))
    assert [(spec.name, spec.dtype) for spec in model.inputs] == [("x", "float32"), ("c", "bool")]
    assert model.notes == ("input x is given as float32, for bfloat16",)


def test_data_of_bfloat16_is_read_as_float32(source: str, tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3).astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "given.npz", x=x, c=np.ones((2, 3), bool))
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    for number, array in enumerate((x, np.ones((2, 3), bool))):
        (folder / f"input_{number}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    for path in (tmp_path / "given.npz", folder):
        spec = importers.make_model_spec(source, None, {}, "original", 0, data=str(path))
        model = load(spec)
        [given, _] = importers.model_inputs(model.inputs, model.model_spec, 0)
        assert given.dtype == np.float32
        np.testing.assert_array_equal(given, x.astype(np.float32))
