"""The model in memory, and converters that fail in every way that they can."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from tuner.baselines import onnx_form
from tuner.baselines.onnx_form import convert, serialized
from tuner.errors import InfrastructureError, ModelError


def test_a_model_beyond_protobufs_limit_is_refused_clearly() -> None:
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[3 << 28])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    model = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor]))
    with pytest.raises(ModelError, match="mnn: the model is larger than 2 GiB"):
        serialized(model, "mnn")


def test_bytes_are_taken_as_they_are() -> None:
    assert serialized(b"model", "any") == b"model"


def test_a_converter_works_in_the_folder_of_its_result(tmp_path: Path) -> None:
    convert("it", [sys.executable, "-c", "open('made', 'w').write('x')"], tmp_path / "made")
    assert (tmp_path / "made").read_text() == "x"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('first'); print('no form for Loop'); raise SystemExit(3)", r"it .*exit code 3.*: no form for Loop$"),
        ("print('Converted Success!')", "exit code 0"),
        ("import os; os.abort()", "exit code -6"),
    ],
    ids=["says why", "writes nothing", "crashes"],
)
def test_a_converter_that_fails_says_so(program: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=words):
        convert("it", [sys.executable, "-c", program], tmp_path / "made")


def test_a_converter_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_form, "CONVERT_S", 0.5)
    with pytest.raises(InfrastructureError, match="within"):
        convert("it", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "made")
