"""Large tensors of ONNX models: left in their files, hidden from what looks at the graph, written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tuner import importers
from tuner.baselines import onnx_form
from tuner.errors import ModelError
from tuner.importers import onnx_tensors
from tuner.importers.onnx_file import read

WIDTH = 512
"""A square of so many float32 numbers is just large."""

Values = NDArray[Any]


def _model(folder: Path, apart: bool) -> tuple[Path, Values]:
    """A product with a large matrix that lies behind 8 bytes of another file, or in the model itself."""
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), dtype=np.float32)
    tensor = numpy_helper.from_array(weights, "w")
    if apart:
        (folder / "weights.bin").write_bytes(b"before: " + weights.tobytes())
        onnx_tensors.put(tensor, "weights.bin", 8, weights.nbytes)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH])],
        [tensor, numpy_helper.from_array(np.ones(WIDTH, np.float32), "b")],
    )
    path = folder / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path, weights


def _answer(model: bytes | str) -> Values:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.full((1, WIDTH), 0.5, np.float32)})[0])


def test_a_large_tensor_stays_in_its_file(tmp_path: Path) -> None:
    path, weights = _model(tmp_path, apart=True)
    model = read(f"onnx:{path}")
    large, small = model.graph.initializer
    assert large.data_location == TensorProto.EXTERNAL
    assert not large.HasField("raw_data")
    assert small.data_location == TensorProto.DEFAULT
    np.testing.assert_array_equal(onnx_tensors.array_of(large), weights)
    spec = importers.make_model_spec(f"onnx:{path}", None, {}, "original", 0)
    assert len(importers.onnx_bytes(spec).SerializeToString()) < onnx_tensors.LARGE_BYTES
    assert onnx_tensors.parameter_bytes(model) == weights.nbytes + WIDTH * 4


@pytest.mark.parametrize("apart", [False, True])
def test_a_light_copy_has_no_large_tensor_and_changes_come_back(tmp_path: Path, apart: bool) -> None:
    path, weights = _model(tmp_path, apart)
    model = read(f"onnx:{path}")
    light = onnx_tensors.light(model)
    assert [tensor.name for tensor in light.graph.initializer] == ["b"]
    assert [value.name for value in light.graph.input] == ["x", "w"]
    onnx.checker.check_model(light)
    light.graph.node[1].op_type = "Sub"
    onnx_tensors.graft(model, light)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Sub"]
    assert [value.name for value in model.graph.input] == ["x"]
    np.testing.assert_array_equal(onnx_tensors.array_of(model.graph.initializer[0]), weights)


def test_what_is_complete_and_what_was_written_answer_as_the_model(tmp_path: Path) -> None:
    path, _ = _model(tmp_path, apart=True)
    expected = _answer(str(path))
    model = read(f"onnx:{path}")
    np.testing.assert_array_equal(_answer(onnx_form.serialized(model, "any")), expected)
    (tmp_path / "other").mkdir()
    written = tmp_path / "other" / "baseline.onnx"
    onnx_tensors.write(model, written)
    assert written.stat().st_size < onnx_tensors.LARGE_BYTES
    np.testing.assert_array_equal(_answer(str(written)), expected)


def test_baselines_are_given_the_file_where_a_message_would_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = _model(tmp_path, apart=True)
    expected, model = _answer(str(path)), read(f"onnx:{path}")
    kept = tmp_path / "baseline.onnx"
    onnx_form.keep(model, kept)
    assert isinstance(onnx_form.kept(kept), bytes)
    kept.unlink()
    monkeypatch.setattr(onnx_tensors, "PROTOBUF_BYTES", 1000)
    onnx_form.keep(model, kept)
    assert onnx_form.kept(kept) == kept
    np.testing.assert_array_equal(_answer(onnx_form.bytes_or_path(onnx_form.kept(kept), "any")), expected)
    with pytest.raises(ModelError, match="ncnn: the model is larger than 2 GiB"):
        onnx_form.serialized(onnx_form.kept(kept), "ncnn")


@pytest.mark.parametrize("left", [None, 100])
def test_files_that_change_after_they_were_checked(
    left: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = _model(tmp_path, apart=True)
    weights = tmp_path / "weights.bin"

    def changed(source: str) -> onnx.ModelProto:
        model = read(source)
        weights.write_bytes(weights.read_bytes()[:left]) if left else weights.unlink()
        return model

    monkeypatch.setattr("tuner.importers.onnx.read", changed)
    with pytest.raises(ModelError, match=r"its external data cannot be read: (No such file|shorter than)"):
        importers.load(f"onnx:{path}", None, {}, "original", 0)


def test_a_large_tensor_of_another_size_than_its_shape_says(tmp_path: Path) -> None:
    path, _ = _model(tmp_path, apart=False)
    model = onnx.ModelProto.FromString(path.read_bytes())
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="tensor 'w' has another number of elements than its shape says"):
        read(f"onnx:{path}")
