"""Shapes, indices and dtypes."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.importers.onnx_operators.base import Axes, Forms, Literals, require

DTYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64,
          9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}  # fmt: skip
"""onnx.TensorProto.DataType -> torch."""


def reshape(x: Tensor, target: Axes | None = None, *, shape: Axes | None = None, allowzero: int = 0) -> Tensor:
    extents = list(target if target is not None else shape or ())
    return x.reshape([x.shape[i] if extent == 0 and not allowzero else extent for i, extent in enumerate(extents)])


def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    axis = axis % x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def transpose(x: Tensor, *, perm: Axes | None = None) -> Tensor:
    return x.permute(list(perm) if perm is not None else list(reversed(range(x.dim()))))


def squeeze(x: Tensor, given: Axes | None = None, *, axes: Axes | None = None) -> Tensor:
    over = given if given is not None else axes
    return x.squeeze() if over is None else x.squeeze(tuple(over))


def unsqueeze(x: Tensor, given: Axes | None = None, *, axes: Axes | None = None) -> Tensor:
    over = list(given if given is not None else axes or ())
    rank = x.dim() + len(over)
    for axis in sorted(axis % rank for axis in over):
        x = x.unsqueeze(axis)
    return x


def concat(*values: Tensor, axis: int = 1) -> Tensor:
    return torch.cat(values, axis)


def split(
    x: Tensor, given: Axes | None = None, *, axis: int = 0, split: Axes | None = None, num_outputs: int = 0,
    outputs: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    sizes = given or split
    if sizes:
        return torch.split(x, list(sizes), axis)
    return torch.split(x, -(-x.shape[axis] // (num_outputs or outputs)), axis)


def slice_(
    x: Tensor, begins: Axes | None = None, stops: Axes | None = None, over: Axes | None = None,
    steps: Axes | None = None, *, starts: Axes = (), ends: Axes = (), axes: Axes | None = None,
) -> Tensor:  # fmt: skip
    begins, stops = begins if begins is not None else starts, stops if stops is not None else ends
    over = over if over is not None else axes if axes is not None else range(len(begins))
    index = [slice(None)] * x.dim()
    for begin, stop, axis, step in zip(begins, stops, over, steps or [1] * len(begins), strict=True):
        require(step > 0, "a slice that runs backwards")
        index[axis] = slice(begin, min(stop, x.shape[axis]), step)
    return x[tuple(index)]


def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    if axis == 0 and x.dim() == 2:
        return F.embedding(indices % x.shape[0], x)
    flat = x.index_select(axis, (indices % x.shape[axis]).reshape(-1))
    axis = axis % x.dim()
    return flat.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def pad(
    x: Tensor, given: Axes | None = None, fill: float | None = None, over: Axes | None = None, *,
    mode: str = "constant", pads: Axes | None = None, value: float = 0.0,
) -> Tensor:  # fmt: skip
    extents = list(given if given is not None else pads or ())
    axes = list(over if over is not None else range(x.dim()))
    before, after = [0] * x.dim(), [0] * x.dim()
    for place, axis in enumerate(axes):
        before[axis], after[axis] = extents[place], extents[place + len(axes)]
    flat = [extent for pair in zip(reversed(before), reversed(after), strict=True) for extent in pair]
    if mode == "constant":
        return F.pad(x, flat, value=value if fill is None else fill)
    require(mode in ("reflect", "edge", "wrap"), f"padding mode {mode}")
    if x.dim() == 4 and not any(flat[-4:]) and mode != "wrap":
        return F.pad(x, flat[:-4], mode="replicate" if mode == "edge" else mode)
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if low or high:
            kept = np.arange(max(0, -low), x.shape[axis] - max(0, -high))
            places = np.pad(kept, (max(0, low), max(0, high)), mode)  # type: ignore[call-overload]
            x = x.index_select(axis, torch.as_tensor(places, device=x.device))
    return x


def expand(x: Tensor, shape: Axes) -> Tensor:
    extents = torch.broadcast_shapes(x.shape, tuple(shape))  # type: ignore[no-untyped-call]
    return x.expand(extents)


def tile(x: Tensor, repeats: Axes) -> Tensor:
    return x.repeat(list(repeats))


def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    require(to in DTYPES, f"a cast to type {to}")
    return x.to(DTYPES[to])


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    blocks = x.reshape(n, blocksize, blocksize, c // blocksize**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // blocksize**2, h * blocksize, w * blocksize)


def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return F.pixel_unshuffle(x, blocksize)
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * blocksize**2, h // blocksize, w // blocksize)


def shape_of(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(list(x.shape[start:end]), dtype=torch.int64)


def size_of(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


def range_of(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


def cast_like(x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x.to(like.dtype)


def identity(x: Tensor) -> Tensor:
    return x


OPERATORS: Forms = {
    "Cast": cast,
    "CastLike": cast_like,
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": identity,
    "Pad": pad,
    "Range": range_of,
    "Reshape": reshape,
    "Shape": shape_of,
    "Size": size_of,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
LITERAL_INPUTS: Literals = {
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
