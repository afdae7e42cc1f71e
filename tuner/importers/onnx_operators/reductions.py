"""Reductions and cumulative sums. Axes are an input in newer operator sets (`given`), an attribute in older ones."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.importers.onnx_operators.base import Axes, Forms, Literals, require


def reduced_axes(x: Tensor, given: Axes | None, axes: Axes | None, noop_with_empty_axes: int) -> tuple[int, ...]:
    """The axes to reduce over; empty when nothing is to be done."""
    return tuple(given or axes or (() if noop_with_empty_axes else range(x.dim())))


def reduce_l2(
    x: Tensor, given: Axes | None = None, *, axes: Axes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    over = reduced_axes(x, given, axes, noop_with_empty_axes)
    return torch.linalg.vector_norm(x, 2, over, bool(keepdims)) if over else x


def reduce_max(
    x: Tensor, given: Axes | None = None, *, axes: Axes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    over = reduced_axes(x, given, axes, noop_with_empty_axes)
    return x.amax(over, bool(keepdims)) if over else x


def reduce_mean(
    x: Tensor, given: Axes | None = None, *, axes: Axes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    over = reduced_axes(x, given, axes, noop_with_empty_axes)
    return x.mean(over, bool(keepdims)) if over else x


def reduce_min(
    x: Tensor, given: Axes | None = None, *, axes: Axes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    over = reduced_axes(x, given, axes, noop_with_empty_axes)
    return x.amin(over, bool(keepdims)) if over else x


def reduce_sum(
    x: Tensor, given: Axes | None = None, *, axes: Axes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    over = reduced_axes(x, given, axes, noop_with_empty_axes)
    return x.sum(over, bool(keepdims)) if over else x


def cum_sum(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    require(not exclusive and not reverse, "an exclusive or reversed cumulative sum")
    return x.cumsum(axis)


OPERATORS: Forms = {
    "CumSum": cum_sum,
    "ReduceL2": reduce_l2,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "ReduceMin": reduce_min,
    "ReduceSum": reduce_sum,
}
LITERAL_INPUTS: Literals = {
    "CumSum": (1,),
    "ReduceL2": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
}
