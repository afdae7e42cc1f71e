"""Baselines: what users would run instead. An explicit table names them; importing it imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tuner.baselines.onnxruntime import OnnxRuntime, OnnxRuntimeCuda, OnnxRuntimeCudaGraph, OnnxSource
from tuner.baselines.torch import TorchChannelsLast, TorchCompile, TorchEager, TorchSource
from tuner.protocols import Baseline

BASELINES: Mapping[str, Callable[[TorchSource], Baseline] | Callable[[OnnxSource], Baseline]] = {
    TorchEager.name: TorchEager,
    TorchChannelsLast.name: TorchChannelsLast,
    TorchCompile.name: TorchCompile,
    OnnxRuntime.name: OnnxRuntime,
    OnnxRuntimeCuda.name: OnnxRuntimeCuda,
    OnnxRuntimeCudaGraph.name: OnnxRuntimeCudaGraph,
}
"""By name; each is made from its source: a callable from a model spec to the model in the baseline's own form."""
