"""Quantized values and back. A scale is one number, or one for each position along `axis`."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.importers.onnx_operators.base import Forms, require
from tuner.importers.onnx_operators.shapes import DTYPES


def quantize(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, saturate: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0,
) -> Tensor:  # fmt: skip
    require(block_size == 0 and precision == 0, "quantization in blocks")
    dtype = zero.dtype if zero is not None else DTYPES[output_dtype] if output_dtype else torch.uint8
    require(not dtype.is_floating_point, f"quantization to {dtype}")
    bounds = torch.iinfo(dtype)
    rounded = torch.round(x / _along(scale, x, axis))
    if zero is not None:
        rounded = rounded + _along(zero, x, axis).to(rounded.dtype)
    return rounded.clamp(bounds.min, bounds.max).to(dtype)


def dequantize(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    require(block_size == 0 and output_dtype == 0, "quantization in blocks")
    values = x.to(scale.dtype)
    if zero is not None:
        values = values - _along(zero, x, axis).to(scale.dtype)
    return values * _along(scale, x, axis)


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """One value, or a vector turned to the given axis of x."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


OPERATORS: Forms = {
    "DequantizeLinear": dequantize,
    "QuantizeLinear": quantize,
}
