"""Every whole-model baseline, served from a real child, against an independent reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.tuner.baselines import models
from tuner.baselines import BASELINES, FROM_ONNX
from tuner.baselines.onnxruntime import OnnxRuntimeCuda
from tuner.errors import InfrastructureError
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildError

MODEL_SPEC = {"seed": 3}
ON_GPU = [name for name in BASELINES if name.startswith("onnxruntime_cuda")]
PROVIDERS = {name: "onnx_model" if name in FROM_ONNX else "torch_module" for name in BASELINES if name not in ON_GPU}


def worker(baseline: str, provider: str, **changes: Any) -> Child:
    settings = {
        "baseline": baseline,
        "model_spec": MODEL_SPEC,
        "threads": 2,
        "provider": f"{models.__name__}:{provider}",
    }
    return Child("tuner.baselines.worker:BaselineWorker", settings | changes, env=thread_env(2))


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, list[Any]]:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((1, 3, 16, 16), dtype=np.float32), rng.standard_normal(1, dtype=np.float32)]
    path = tmp_path / "inputs.npz"
    np.savez(path, *arrays)
    return path, arrays


@pytest.mark.slow
@pytest.mark.parametrize(("name", "provider"), [*PROVIDERS.items(), ("onnxruntime", "onnx_bytes")])
def test_outputs_are_right_and_blocks_are_timed(
    name: str, provider: str, inputs: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    if name == "mnn":  # no part of the extra `all`
        pytest.importorskip("MNN")
    path, arrays = inputs
    with worker(name, provider) as child:
        settings = child.call("prepare", 240, inputs_npz_path=str(path))["settings"]
        assert "2 threads" in settings
        blocks = [child.call("block", 30, count=count) for count in (1, 500)]
        assert 0 < blocks[0]["seconds"] < blocks[1]["seconds"] < 30
        assert all(0 < block["first_s"] < 1 for block in blocks)
        assert child.call("peak_bytes", 30) > 20 << 20
        assert child.call("outputs", 30, path=str(tmp_path / "outputs")) == 2
    with np.load(tmp_path / "outputs", allow_pickle=False) as stored:
        out, double = (stored[key] for key in stored.files)
    expected = models.reference(MODEL_SPEC, *arrays)
    share = 0.02 if name.endswith("_bf16") else 1e-4
    np.testing.assert_allclose(out, expected, rtol=share, atol=share * np.abs(expected).max())
    np.testing.assert_allclose(double, 2 * expected, rtol=share, atol=2 * share * np.abs(expected).max())


def test_errors_of_the_provider_come_back_typed_and_the_child_goes_on(inputs: tuple[Path, list[Any]]) -> None:
    with worker("onnxruntime", "broken") as child:
        with pytest.raises(ChildError, match="no model for") as caught:
            child.call("prepare", 60, inputs_npz_path=str(inputs[0]))
        assert caught.value.kind == "ValueError"
        with pytest.raises(ChildError, match="comes first"):
            child.call("block", 60, count=1)


def test_a_wrong_number_of_inputs_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", np.zeros((1, 3, 16, 16), dtype=np.float32))
    with worker("onnxruntime", "onnx_model") as child, pytest.raises(ChildError) as caught:
        child.call("prepare", 60, inputs_npz_path=str(tmp_path / "one.npz"))
    assert caught.value.kind == "ValueError"


def test_pickled_inputs_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", np.array([{"a": 1}], dtype=object))
    with worker("onnxruntime", "onnx_model") as child, pytest.raises(ChildError, match="pickle"):
        child.call("prepare", 60, inputs_npz_path=str(tmp_path / "evil.npz"))


def test_an_unavailable_baseline_says_why(inputs: tuple[Path, list[Any]]) -> None:
    env = thread_env(2) | {"CXX": "no-such-compiler"}
    settings = {
        "baseline": "torch_compile",
        "model_spec": MODEL_SPEC,
        "threads": 2,
        "provider": f"{models.__name__}:torch_module",
    }
    child = Child("tuner.baselines.worker:BaselineWorker", settings, env=env)
    with child, pytest.raises(ChildError, match="no-such-compiler"):
        child.call("prepare", 60, inputs_npz_path=str(inputs[0]))


@pytest.mark.parametrize("name", ON_GPU)
def test_onnxruntime_without_its_cuda_provider_says_what_to_install(name: str, inputs: tuple[Path, list[Any]]) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("the provider is installed")
    with worker(name, "onnx_model") as child, pytest.raises(ChildError, match="'onnxruntime-gpu' is not installed"):
        child.call("prepare", 60, inputs_npz_path=str(inputs[0]))


def test_a_provider_that_does_not_start_is_no_baseline() -> None:
    """ONNX Runtime itself goes on with the CPU, and would be timed under the GPU's name."""
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(InfrastructureError, match="cannot start CUDAExecutionProvider"),
    ):
        OnnxRuntimeCuda(models.onnx_model).load(MODEL_SPEC, 1)


def test_an_onnx_model_is_made_once_for_all_who_take_it(inputs: tuple[Path, list[Any]], tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name, provider in (("onnxruntime", "onnx_model"), ("openvino", "broken")):
        if BASELINES[name](None).unavailable():
            pytest.skip(f"{name} is not installed")
        with worker(name, provider, scratch=str(scratch)) as child:
            child.call("prepare", 60, inputs_npz_path=str(inputs[0]))
    assert [path.suffix for path in scratch.iterdir()] == [".onnx"]
