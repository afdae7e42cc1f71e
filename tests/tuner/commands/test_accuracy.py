"""The user's samples: what fits a model's inputs, and what is refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.commands.accuracy import samples_of
from tuner.config import AccuracyConfig, ModelConfig, RunConfig, parse
from tuner.errors import ConfigError
from tuner.importers.samples import read_samples
from tuner.models import ImportedModel, InputSpec

SPECS = (InputSpec("x", (1, 4), "float32"), InputSpec("n", (), "int64"))
MODEL = ImportedModel("m", "onnx:m", None, SPECS, {})


def _write(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "v.npz", **arrays)
    return str(folder / "v.npz")


def test_samples_lie_along_a_first_axis(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32)
    for shaped in (x.reshape(3, 1, 4), x.reshape(3, 4)):
        samples = read_samples(_write(tmp_path, x=shaped, n=np.arange(3), labels=np.arange(3)), SPECS)
        assert len(samples.inputs) == 3 and samples.labels is not None
        np.testing.assert_array_equal(samples.inputs[1][0], [[4, 5, 6, 7]])
    outputs = read_samples(
        _write(tmp_path, x=x.reshape(3, 4), n=np.arange(3), output_0=np.zeros((3, 2))), SPECS
    ).outputs
    assert len(outputs) == 3 and outputs[0][0].shape == (2,)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"x": np.zeros((3, 4), np.float32)}, "no array 'n'"),
        ({"x": np.zeros((3, 5), np.float32), "n": np.arange(3)}, "no samples of 1x4"),
        ({"x": np.zeros((3, 4), np.float32), "n": np.arange(2)}, "not the same number"),
        ({"x": np.zeros((0, 4), np.float32), "n": np.arange(0)}, "not the same number"),
        ({"x": np.zeros((3, 4), complex), "n": np.arange(3)}, "no numbers"),
        ({"x": np.zeros((3, 4), np.float32), "n": np.zeros(3)}, "takes int64"),
        ({"x": np.zeros((3, 4), np.float32), "n": np.arange(3), "labels": np.zeros(3)}, "integers"),
        ({"x": np.zeros((3, 4), np.float32), "n": np.arange(3), "labels": np.arange(4)}, "labels"),
        ({"x": np.zeros((3, 4), np.float32), "n": np.arange(3), "label": np.arange(3)}, "neither an input"),
        ({"x": np.zeros((3, 4), np.float32), "n": np.arange(3), "output_0": np.zeros(2)}, "axis of 3 samples"),
    ],
)
def test_what_does_not_fit_is_refused(arrays: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read_samples(_write(tmp_path, **arrays), SPECS)
    assert caught.value.path == "accuracy.data"


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_samples(str(tmp_path / "v.npz"), SPECS)
    (tmp_path / "v.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match="damaged"):
        read_samples(str(tmp_path / "v.npz"), SPECS)


def test_labels_have_classes(tmp_path: Path) -> None:
    path = _write(tmp_path, x=np.zeros((3, 4), np.float32), n=np.arange(3), labels=np.arange(3))
    config = RunConfig(ModelConfig("onnx:m"), accuracy=AccuracyConfig(path, "mse", at_most=1.0))
    with pytest.raises(ConfigError, match="not one of labels"):
        samples_of(config, MODEL)
    assert samples_of(RunConfig(ModelConfig("onnx:m")), MODEL) is None and config.accuracy.bound == 1.0


@pytest.mark.parametrize(
    ("accuracy", "why"),
    [
        ("{metric: mse, at_least: 0.1}", "other side"),
        ("{metric: top1, at_most: 0.1}", "other side"),
        ("{data: v.npz}", "missing"),
        ("{metric: top1, at_least: 80}", "share"),
        ("{metric: mse, at_most: -1}", "0 or more"),
        ("{metric: accuracy}", "expected one of"),
    ],
)
def test_contradictions_in_the_run_file_are_refused(accuracy: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(f"model: {{source: onnx:m}}\naccuracy: {accuracy}", "run.yaml")
