"""Reductions and cumulative sums. Axes are an input in newer operator sets (`given`), an attribute in older ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tuner.importers.onnx_operators.base import Axes, Forms, Literals, require


def reduction(name: str, run: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Callable[..., Tensor]:
    """The form of a Reduce operator: `run(x, axes, keepdims)` over one axis or more."""

    def form(
        x: Tensor, given: Axes | None = None, *, axes: Axes | None = None, keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:  # fmt: skip
        over = tuple(given or axes or (() if noop_with_empty_axes else range(x.dim())))
        return run(x, over, bool(keepdims)) if over else x

    form.__name__ = form.__qualname__ = name  # torch.fx writes code that calls it by this name
    return form


def product(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):  # torch takes one axis at a time
        x = x.prod(axis, keepdim=keepdims)
    return x


def cum_sum(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    require(not exclusive and not reverse, "an exclusive or reversed cumulative sum")
    return x.cumsum(axis)


REDUCTIONS: Mapping[str, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keepdims: x.abs().sum(axes, keepdims),
    "ReduceL2": lambda x, axes, keepdims: torch.linalg.vector_norm(x, 2, axes, keepdims),
    "ReduceLogSum": lambda x, axes, keepdims: x.sum(axes, keepdims).log(),
    "ReduceLogSumExp": lambda x, axes, keepdims: x.logsumexp(axes, keepdims),
    "ReduceMax": lambda x, axes, keepdims: x.amax(axes, keepdims),
    "ReduceMean": lambda x, axes, keepdims: x.mean(axes, keepdims),
    "ReduceMin": lambda x, axes, keepdims: x.amin(axes, keepdims),
    "ReduceProd": product,
    "ReduceSum": lambda x, axes, keepdims: x.sum(axes, keepdims),
    "ReduceSumSquare": lambda x, axes, keepdims: x.square().sum(axes, keepdims),
}

OPERATORS: Forms = {"CumSum": cum_sum, **{name: reduction(name, run) for name, run in REDUCTIONS.items()}}
LITERAL_INPUTS: Literals = dict.fromkeys(OPERATORS, (1,))
