"""OpenVINO computes in float32, with the threads that it is given."""

from __future__ import annotations

import pytest

from tests.tuner.baselines import models
from tuner.baselines.openvino import OpenVino


@pytest.mark.skipif(OpenVino(models.onnx_model).unavailable() is not None, reason="OpenVINO is not installed")
def test_precision_threads_and_pinning_are_as_asked_for() -> None:
    compiled = OpenVino(models.onnx_model).load({"seed": 3}, 2).compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("NUM_STREAMS") in (1, "1")
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
