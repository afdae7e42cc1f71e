"""Normalization and softmax."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tuner.importers.onnx_operators.base import Axes, Forms, require


def batch_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float = 1e-5,
    momentum: float = 0.9, spatial: int = 1, training_mode: int = 0, consumed_inputs: Axes = (), is_test: int = 0,
) -> Tensor:  # fmt: skip
    require(not training_mode and spatial == 1, "batch normalization in training mode or not over space")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, None, None, scale, bias, eps=epsilon)


def layer_normalization(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return F.layer_norm(x, x.shape[axis:], scale.expand(x.shape[axis:]), bias, epsilon)


def lrn(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    if size % 2:
        return F.local_response_norm(x, size, alpha, beta, bias)
    # An even window reaches one further ahead in ONNX and one further back in torch.
    return F.local_response_norm(x.flip(1), size, alpha, beta, bias).flip(1)


def softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    if opset >= 13:
        return x.softmax(-1 if axis is None else axis)
    axis = 1 if axis is None else axis % x.dim()  # before opset 13: over all dimensions from `axis` on
    if axis == x.dim() - 1:
        return x.softmax(-1)
    return x.flatten(axis).softmax(-1).reshape(x.shape)


def log_softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    if opset >= 13:
        return x.log_softmax(-1 if axis is None else axis)
    axis = 1 if axis is None else axis % x.dim()
    return x.flatten(axis).log_softmax(-1).reshape(x.shape)


OPERATORS: Forms = {
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": log_softmax,
    "Softmax": softmax,
}
