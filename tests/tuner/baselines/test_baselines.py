"""The table of baselines and what its entries say without a framework being imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pytest

from tuner.baselines import BASELINES
from tuner.config import ModelBaseline
from tuner.measure.models import UNTUNED


def _no_model(model_spec: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
    raise AssertionError("the model is not asked for")


def test_names_are_those_of_the_table() -> None:
    assert {name: BASELINES[name](_no_model).name for name in BASELINES} == {name: name for name in BASELINES}
    on_gpu = {f"onnxruntime_cuda{way}" for way in ("", "_graph", "_fp16", "_int8")}
    narrow = {"torch_bf16", "torch_compile_bf16", "openvino_bf16", "openvino_int8", "onnxruntime_int8"}
    assert set(BASELINES) == set(get_args(ModelBaseline)) - {UNTUNED} | on_gpu | narrow


@pytest.mark.parametrize("name", BASELINES)
def test_settings_name_product_and_version(name: str) -> None:
    settings = BASELINES[name](_no_model).settings
    assert settings.startswith(("PyTorch ", "ONNX Runtime ", "OpenVINO ", "ncnn ", "MNN "))
    assert any(character.isdigit() for character in settings)


def test_a_compiler_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = BASELINES["torch_compile"](_no_model).unavailable()
    assert reason is not None and "no-such-compiler" in reason
    assert BASELINES["torch"](_no_model).unavailable() is None


def test_the_table_and_its_answers_import_no_framework() -> None:
    script = (
        "import sys; from tuner.baselines import BASELINES\n"
        "[(b(None).unavailable(), b(None).settings) for b in BASELINES.values()]\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'tvm', 'openvino', 'ncnn', 'pnnx', 'MNN'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
