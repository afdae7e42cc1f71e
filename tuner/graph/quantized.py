"""Quantized values as they go through a graph: steps of a scale, and sums of products of steps.

real = (steps - zero) * scale. Sums that are not scaled yet stay integers for as long as what is done to them is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tuner.graph.rewriter import Array, array_of, shape_of

MOST_SUM = 2**31 - 1
"""What a sum of products in int32 may reach."""

_WHOLE = 0.01
"""A bias that is so near to a whole number of steps is one: it was quantized, and float32 rounded it."""


@dataclass(frozen=True)
class Steps:
    """A dequantized value that is not computed yet: `expr` has its steps. `scale` (float32, one number or one for each
    position along `axis`) and `zero` (integers, likewise) are known."""

    expr: Any
    scale: Array
    zero: Array
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.expr)

    @property
    def dtype(self) -> str:
        return str(self.expr.ty.dtype)

    @property
    def array(self) -> Array | None:
        """The steps, where they are constant."""
        return array_of(self.expr)

    @property
    def is_whole(self) -> bool:
        """Whether one scale and one zero point hold for all of it."""
        return self.scale.size == 1 and self.zero.size == 1

    def like(self, expr: Any) -> Steps:
        """Other steps of the same scale, where one holds for all."""
        return replace(self, expr=expr)

    def same_steps(self, scale: Array, zero: Array, dtype: str) -> bool:
        """Whether quantizing with these gives the steps as they are."""
        one = self.is_whole and scale.size == zero.size == 1 and self.dtype == dtype
        return one and self.scale.item() == scale.item() and self.zero.item() == zero.item()

    def constant(self) -> Array | None:
        """The value in float32 as the standard computes it, where the steps are constant."""
        steps = self.array
        if steps is None:
            return None
        offset = along(self.zero, steps.ndim, self.axis).astype(np.int64)
        centred: Array = (steps.astype(np.int64) - offset).astype(np.float32)
        return centred * along(self.scale, steps.ndim, self.axis).astype(np.float32)


@dataclass(frozen=True)
class Total:
    """Sums of products of steps: `expr` is int32, and (expr + `offset`) * `scale` what they stand for. The scale is one
    number, or one for each position along `axis`; the offset is a constant that is not added yet."""

    expr: Any
    scale: Array
    axis: int
    offset: Array | None = None

    def plus(self, more: Array) -> Total:
        """With integers added, which broadcast over it."""
        return replace(self, offset=more if self.offset is None else self.offset + more)

    def bias(self, value: Array) -> Array | None:
        """A constant in steps, in the shape in which it is added; None where it is no whole number of them."""
        rank = len(shape_of(self.expr))
        spread = value.reshape([1] * (rank - value.ndim) + list(value.shape)) if value.ndim <= rank else None
        if spread is None or any(n != 1 for a, n in enumerate(spread.shape) if a != self.axis % rank):
            return None
        exact = spread.astype(np.float64) / along(self.scale, rank, self.axis).astype(np.float64)
        whole = np.rint(exact)
        if not np.isfinite(exact).all() or (np.abs(exact - whole) > _WHOLE).any() or np.abs(whole).max() > 2**24:
            return None
        return whole.astype(np.int32)


def along(values: Array, rank: int, axis: int) -> Array:
    """One number, or numbers along an axis, in a shape that broadcasts over a tensor of that rank.

    One number is a tensor of one element: a scalar would be written into the kernel, and each layer had one of its own.
    """
    if values.size == 1:
        return values.reshape(1)
    return values.reshape([-1 if a == axis % rank else 1 for a in range(rank)])


def steps_of(values: Array, scale: Array, zero: Array, axis: int, dtype: str) -> Array:
    """Constants quantized as the standard does it, in float32."""
    limits, rank = np.iinfo(dtype), values.ndim
    scaled = np.rint(values.astype(np.float32) / along(scale, rank, axis).astype(np.float32))
    shifted = scaled + along(zero, rank, axis).astype(np.float32)
    steps: Array = np.clip(shifted, limits.min, limits.max).astype(dtype)
    return steps


def narrow_weight(steps: Steps) -> Array | None:
    """A constant weight around zero: in int8, or in int16 where it needs more; None where it is not constant."""
    array = steps.array
    if array is None:
        return None
    centred = array.astype(np.int64) - along(steps.zero, array.ndim, steps.axis).astype(np.int64)
    low, high = centred.min(initial=0), centred.max(initial=0)
    if low >= -128 and high <= 127:
        return centred.astype(np.int8)
    return centred.astype(np.int16) if low >= -(2**15) and high < 2**15 else None


def largest_sum(weight: Array, axes: tuple[int, ...]) -> int:
    """The largest absolute sum that eight-bit data can make with a weight, summed over these axes."""
    return int(np.abs(weight.astype(np.int64)).sum(axis=axes).max(initial=0)) * 255
