"""Baselines: what users would run instead. An explicit table names them; importing it imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tuner.baselines.mnn import Mnn
from tuner.baselines.ncnn import Ncnn
from tuner.baselines.onnx_form import OnnxSource
from tuner.baselines.onnxruntime import (
    OnnxRuntime,
    OnnxRuntimeCuda,
    OnnxRuntimeCudaFloat16,
    OnnxRuntimeCudaGraph,
    OnnxRuntimeCudaInt8,
    OnnxRuntimeInt8,
)
from tuner.baselines.openvino import OpenVino, OpenVinoBfloat16, OpenVinoInt8
from tuner.baselines.torch import (
    TorchBfloat16,
    TorchChannelsLast,
    TorchCompile,
    TorchCompileBfloat16,
    TorchEager,
    TorchMaxAutotune,
    TorchSource,
)
from tuner.models import Reduced
from tuner.precisions import BFLOAT16, INT8, float_of_unit
from tuner.protocols import Baseline

FROM_TORCH: Mapping[str, Callable[[TorchSource], Baseline]] = {
    TorchEager.name: TorchEager,
    TorchChannelsLast.name: TorchChannelsLast,
    TorchCompile.name: TorchCompile,
    TorchMaxAutotune.name: TorchMaxAutotune,
    TorchBfloat16.name: TorchBfloat16,
    TorchCompileBfloat16.name: TorchCompileBfloat16,
}
"""By name; each is made from its source: a callable from a model spec to a PyTorch module."""

FROM_ONNX: Mapping[str, Callable[[OnnxSource], Baseline]] = {
    OnnxRuntime.name: OnnxRuntime,
    OpenVino.name: OpenVino,
    Ncnn.name: Ncnn,
    Mnn.name: Mnn,
    OnnxRuntimeCuda.name: OnnxRuntimeCuda,
    OnnxRuntimeCudaGraph.name: OnnxRuntimeCudaGraph,
    OnnxRuntimeCudaFloat16.name: OnnxRuntimeCudaFloat16,
    OnnxRuntimeCudaInt8.name: OnnxRuntimeCudaInt8,
    OnnxRuntimeInt8.name: OnnxRuntimeInt8,
    OpenVinoBfloat16.name: OpenVinoBfloat16,
    OpenVinoInt8.name: OpenVinoInt8,
}
"""By name; each is made from its source: a callable from a model spec to an ONNX model."""

BASELINES: Mapping[str, Callable[[Any], Baseline]] = {**FROM_TORCH, **FROM_ONNX}
"""All of them."""

NARROWER: Mapping[str, Mapping[str, str]] = {
    BFLOAT16: {
        OpenVino.name: OpenVinoBfloat16.name,
        TorchEager.name: TorchBfloat16.name,
        TorchCompile.name: TorchCompileBfloat16.name,
    },
    INT8: {OnnxRuntime.name: OnnxRuntimeInt8.name, OpenVino.name: OpenVinoInt8.name},
}
"""By precision: the baseline that computes in it, beside the one in float32."""


def narrower_than_float32(reduced: Reduced) -> Mapping[str, str]:
    """The baselines that compute as a reduced model does, by those in float32. Of a mix with quantized layers they are
    given the same mix, and compute its other layers in float32."""
    if reduced.precision in NARROWER:
        return NARROWER[reduced.precision]
    return NARROWER.get(INT8 if reduced.whole is not None else float_of_unit(reduced.unit), {})
