"""Quantized values and back. A scale is one number, or one for each position along `axis`, or for each block there."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.importers.onnx_operators.base import Forms, require
from tuner.importers.onnx_operators.shapes import DTYPES


def quantize(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, saturate: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0,
) -> Tensor:  # fmt: skip
    require(precision == 0, "quantization in a precision of its own")
    require(zero is not None or not output_dtype or output_dtype in DTYPES, "quantization to fewer than 8 bits")
    dtype = zero.dtype if zero is not None else DTYPES[output_dtype] if output_dtype else torch.uint8
    require(not dtype.is_floating_point, f"quantization to {dtype}")
    bounds = torch.iinfo(dtype)
    rounded = torch.round(x / _along(scale, x, axis, block_size))
    if zero is not None:
        rounded = rounded + _along(zero, x, axis, block_size).to(rounded.dtype)
    return rounded.clamp(bounds.min, bounds.max).to(dtype)


def dequantize(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    require(output_dtype == 0, "numbers of another type than their scale")
    values = x.to(scale.dtype)
    if zero is not None:
        values = values - _along(zero, x, axis, block_size).to(scale.dtype)
    return values * _along(scale, x, axis, block_size)


def _along(values: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """One value, or a vector turned to the given axis of x, or, with `block`, one value for so many positions there."""
    if block:
        return values.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


OPERATORS: Forms = {
    "DequantizeLinear": dequantize,
    "QuantizeLinear": quantize,
}
