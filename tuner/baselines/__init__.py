"""Baselines: what users would run instead. An explicit table names them; importing it imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tuner.baselines.mnn import Mnn
from tuner.baselines.ncnn import Ncnn
from tuner.baselines.onnx_form import OnnxSource
from tuner.baselines.onnxruntime import OnnxRuntime, OnnxRuntimeCuda, OnnxRuntimeCudaGraph
from tuner.baselines.openvino import OpenVino
from tuner.baselines.torch import TorchChannelsLast, TorchCompile, TorchEager, TorchMaxAutotune, TorchSource
from tuner.protocols import Baseline

FROM_TORCH: Mapping[str, Callable[[TorchSource], Baseline]] = {
    TorchEager.name: TorchEager,
    TorchChannelsLast.name: TorchChannelsLast,
    TorchCompile.name: TorchCompile,
    TorchMaxAutotune.name: TorchMaxAutotune,
}
"""By name; each is made from its source: a callable from a model spec to a PyTorch module."""

FROM_ONNX: Mapping[str, Callable[[OnnxSource], Baseline]] = {
    OnnxRuntime.name: OnnxRuntime,
    OpenVino.name: OpenVino,
    Ncnn.name: Ncnn,
    Mnn.name: Mnn,
    OnnxRuntimeCuda.name: OnnxRuntimeCuda,
    OnnxRuntimeCudaGraph.name: OnnxRuntimeCudaGraph,
}
"""By name; each is made from its source: a callable from a model spec to an ONNX model."""

BASELINES: Mapping[str, Callable[[Any], Baseline]] = {**FROM_TORCH, **FROM_ONNX}
"""All of them."""
