"""Products, activations and element-wise arithmetic."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.importers.onnx_operators.base import Forms, Literals


def gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0,
    transB: int = 0, broadcast: int = 1,
) -> Tensor:  # fmt: skip
    left = a.t() if transA else a
    if alpha == 1.0 and beta == 1.0 and transB and (c is None or c.dim() == 1):
        return F.linear(left, b, c)
    right = b.t() if transB else b
    if c is None:
        return alpha * (left @ right)
    return torch.addmm(c, left, right, beta=beta, alpha=alpha)


def div(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def sum_of(*values: Tensor) -> Tensor:
    return functools.reduce(torch.add, values)


def mean_of(*values: Tensor) -> Tensor:
    return functools.reduce(torch.add, values) / len(values)


def max_of(*values: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, values)


def min_of(*values: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, values)


def clip(x: Tensor, low: float | None = None, high: float | None = None, **bounds: float) -> Tensor:
    low, high = bounds.get("min", low), bounds.get("max", high)  # attributes before opset 11
    if low == 0 and high is None:
        return F.relu(x)
    return x if low is None and high is None else x.clamp(low, high)


def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, slope * x)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (alpha * x + beta).clamp(0.0, 1.0)


def selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * F.elu(x, alpha)


def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.threshold(x, alpha, 0.0)


def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    if detect_negative and detect_positive:
        return torch.isinf(x)
    return torch.isposinf(x) if detect_positive else torch.isneginf(x) if detect_negative else x != x


def einsum(*values: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *values)


OPERATORS: Forms = {
    "Clip": clip,
    "Div": div,
    "Einsum": einsum,
    "Elu": elu,
    "Gelu": gelu,
    "Gemm": gemm,
    "HardSigmoid": hard_sigmoid,
    "IsInf": is_inf,
    "LeakyRelu": leaky_relu,
    "Max": max_of,
    "Mean": mean_of,
    "Min": min_of,
    "Mod": mod,
    "PRelu": prelu,
    "Selu": selu,
    "Sum": sum_of,
    "ThresholdedRelu": thresholded_relu,
}
LITERAL_INPUTS: Literals = {
    "Clip": (1, 2),
}

DIRECT: Forms = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Add": torch.add,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseNot": torch.bitwise_not,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Mish": F.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Relu": F.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}
"""Operators without attributes that torch has as they are."""
