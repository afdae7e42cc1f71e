"""Images in another size. Positions of what is read: https://onnx.ai/onnx/operators/onnx__Resize.html."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.importers.onnx_operators.base import Axes, Forms, Literals, require


def resize(
    x: Tensor, first: Sequence[float] | None = None, scales: Sequence[float] | None = None, sizes: Axes | None = None,
    *, mode: str = "nearest", coordinate_transformation_mode: str = "half_pixel", nearest_mode: str =
    "round_prefer_floor", cubic_coeff_a: float = -0.75, exclude_outside: int = 0, extrapolation_value: float = 0.0,
    antialias: int = 0, axes: Axes | None = None, keep_aspect_ratio_policy: str = "stretch", opset: int,
) -> Tensor:  # fmt: skip
    if opset < 11:  # its only input besides x are scales, its positions those of `asymmetric`
        scales, coordinate_transformation_mode, nearest_mode = first, "asymmetric", "floor"
    require(keep_aspect_ratio_policy == "stretch" and not exclude_outside and not antialias, "this kind of resizing")
    over = [axis % x.dim() for axis in axes] if axes is not None else list(range(x.dim()))
    factors, extents = [1.0] * x.dim(), list(x.shape)
    for place, axis in enumerate(over):
        if sizes:
            extents[axis], factors[axis] = sizes[place], sizes[place] / x.shape[axis]
        elif scales:
            factors[axis] = scales[place]
            extents[axis] = int(x.shape[axis] * scales[place])
    require(extents[:2] == list(x.shape[:2]), "a resize of the outer dimensions")
    return _interpolated(x, factors[2:], extents[2:], bool(sizes), mode, coordinate_transformation_mode, nearest_mode)


def upsample(
    x: Tensor, given: Sequence[float] | None = None, *, scales: Sequence[float] | None = None, mode: str = "nearest"
) -> Tensor:
    return resize(x, given if given is not None else scales, mode=mode, opset=10)


def _interpolated(
    x: Tensor, factors: Sequence[float], extents: list[int], by_size: bool, mode: str, positions: str, rounding: str
) -> Tensor:
    """`x` in another size. torch reads from the positions that `by_size` or the factors give, as ONNX does."""
    where = {"size": extents} if by_size else {"scale_factor": list(factors), "recompute_scale_factor": False}
    if mode == "nearest":
        exact = positions in ("half_pixel", "pytorch_half_pixel") and (
            rounding == "round_prefer_ceil" or all(factor == int(factor) for factor in factors)  # no ties to round
        )
        floor = positions == "asymmetric" and (
            rounding == "floor" or (rounding == "round_prefer_floor" and all(factor in (1, 2) for factor in factors))
        )
        if not exact and not floor:
            return _picked(x, factors, extents, positions, rounding)
        return F.interpolate(x, mode="nearest-exact" if exact else "nearest", **where)
    aligned = positions == "align_corners"
    halves = positions == "half_pixel" or (positions == "pytorch_half_pixel" and all(extent > 1 for extent in extents))
    if mode == "linear" and not aligned and not halves:
        return _mixed(x, factors, extents, positions)
    require(aligned or halves, f"{mode} interpolation with positions {positions}")
    rank = x.dim() - 2
    require(mode == "linear" or rank == 2, f"{mode} interpolation in {rank} dimensions")
    names = {"linear": ("linear", "bilinear", "trilinear")[rank - 1], "cubic": "bicubic"}
    return F.interpolate(x, mode=names[mode], align_corners=aligned, **where)


def _picked(x: Tensor, factors: Sequence[float], extents: Sequence[int], positions: str, rounding: str) -> Tensor:
    """The nearest neighbours in each dimension, by the formulas of the standard."""
    require(positions in _POSITIONS and rounding in _ROUNDINGS, f"positions {positions} with {rounding}")
    for axis, (factor, extent) in enumerate(zip(factors, extents, strict=True), 2):
        length = x.shape[axis]
        read = _ROUNDINGS[rounding](_POSITIONS[positions](torch.arange(extent), factor, length, extent))
        x = x.index_select(axis, read.clamp(0, length - 1).long().to(x.device))
    return x


def _mixed(x: Tensor, factors: Sequence[float], extents: Sequence[int], positions: str) -> Tensor:
    """Linear interpolation in each dimension, by the formulas of the standard."""
    require(positions in _POSITIONS, f"positions {positions}")
    for axis, (factor, extent) in enumerate(zip(factors, extents, strict=True), 2):
        length = x.shape[axis]
        position = _POSITIONS[positions](torch.arange(extent), factor, length, extent).clamp(0, length - 1)
        below = position.floor()
        share = (position - below).to(x.dtype).reshape([-1] + [1] * (x.dim() - axis - 1)).to(x.device)
        first, second = (x.index_select(axis, i.clamp(max=length - 1).long().to(x.device)) for i in (below, below + 1))
        x = first * (1 - share) + second * share
    return x


_POSITIONS: Mapping[str, Callable[[Tensor, float, int, int], Tensor]] = {
    "half_pixel": lambda i, factor, length, extent: (i + 0.5) / factor - 0.5,
    "pytorch_half_pixel": lambda i, factor, length, extent: (i + 0.5) / factor - 0.5 if extent > 1 else 0.0 * i,
    "asymmetric": lambda i, factor, length, extent: i / factor,
    "align_corners": lambda i, factor, length, extent: i * ((length - 1) / max(extent - 1, 1)),
}
_ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round_prefer_floor": lambda position: torch.ceil(position - 0.5),
    "round_prefer_ceil": lambda position: torch.floor(position + 0.5),
}


def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    modes = {"linear": "bilinear", "cubic": "bicubic"}
    return F.grid_sample(x, grid, modes.get(mode, mode), padding_mode, bool(align_corners))


OPERATORS: Forms = {
    "GridSample": grid_sample,
    "Resize": resize,
    "Upsample": upsample,
}
LITERAL_INPUTS: Literals = {
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
