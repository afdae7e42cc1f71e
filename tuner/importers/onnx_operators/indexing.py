"""Reading and writing by index: gathering, scattering, the largest and where they stand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tuner.importers.onnx_operators.base import Forms, Literals, require


def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    require(not select_last_index, "the last of several largest")
    return torch.argmax(x, axis, keepdim=bool(keepdims))


def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    require(not select_last_index, "the last of several least")
    return torch.argmin(x, axis, keepdim=bool(keepdims))


def top_k(
    x: Tensor, given: Sequence[int] | None = None, *, k: int = 0, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    count = given[0] if given is not None else k
    values, indices = torch.topk(x, count, axis, bool(largest), bool(sorted))
    return values, indices


def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return torch.gather(x, axis, indices.long() % x.shape[axis])


def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    depth = indices.shape[-1]
    rows = math.prod(x.shape[:batch_dims])
    flat = x.reshape(rows, *x.shape[batch_dims:])
    places = indices.reshape(rows, -1, depth).long()
    row = torch.arange(rows, device=x.device).unsqueeze(1)
    taken = flat[(row, *places.unbind(-1))]
    return taken.reshape([*indices.shape[:-1], *x.shape[batch_dims + depth :]])


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    places = indices.long() % x.shape[axis]
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    require(reduction in ("none", "add"), f"a scatter with the reduction {reduction}")
    return x.index_put(tuple(indices.long().unbind(-1)), updates, accumulate=reduction == "add")


def reverse_sequence(x: Tensor, lengths: Tensor, *, time_axis: int = 0, batch_axis: int = 1) -> Tensor:
    """The first elements along the axis of time turned round, in each batch as many as its length says."""
    rows = x.movedim((batch_axis, time_axis), (0, 1))
    steps, counts = torch.arange(rows.shape[1], device=x.device), lengths.unsqueeze(1)
    places = torch.where(steps < counts, counts - 1 - steps, steps)
    turned = rows[torch.arange(rows.shape[0], device=x.device).unsqueeze(1), places]
    return turned.movedim((0, 1), (batch_axis, time_axis))


def trilu(x: Tensor, k: int = 0, *, upper: int = 1) -> Tensor:
    return torch.triu(x, k) if upper else torch.tril(x, k)


def one_hot(indices: Tensor, depth: int | Sequence[int], values: Tensor, *, axis: int = -1) -> Tensor:
    count = depth if isinstance(depth, (int, float)) else depth[0]
    hot = torch.arange(int(count), device=indices.device) == (indices % count).unsqueeze(-1)
    off, on = values.unbind()
    return torch.where(hot, on, off).movedim(-1, axis)


def non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x).t()


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}

OPERATORS: Forms = {
    "ArgMax": arg_max,
    "ArgMin": arg_min,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "NonZero": non_zero,
    "OneHot": one_hot,
    "ReverseSequence": reverse_sequence,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TopK": top_k,
    "Trilu": trilu,
}
LITERAL_INPUTS: Literals = {
    "OneHot": (1,),
    "TopK": (1,),
    "Trilu": (1,),
}
