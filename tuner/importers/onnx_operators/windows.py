"""Convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.importers.onnx_operators.base import Axes, Forms, require


def split_pads(x: Tensor, pads: Axes | None, lowest: float) -> tuple[Tensor, list[int]]:
    """Symmetric padding is left to the operator; asymmetric padding is written out with the value `lowest`."""
    rank = x.dim() - 2
    begins, ends = (list(pads[:rank]), list(pads[rank:])) if pads else ([0] * rank, [0] * rank)
    if begins == ends:
        return x, begins
    flat = [extent for pair in zip(reversed(begins), reversed(ends), strict=True) for extent in pair]
    return F.pad(x, flat, value=lowest), [0] * rank


def conv(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, auto_pad: str = "NOTSET", dilations: Axes | None = None,
    group: int = 1, kernel_shape: Axes | None = None, pads: Axes | None = None, strides: Axes | None = None,
) -> Tensor:  # fmt: skip
    require(auto_pad in ("NOTSET", "VALID"), f"auto_pad {auto_pad}")
    rank = x.dim() - 2
    x, padding = split_pads(x, pads, 0.0)
    run: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return run(x, w, b, list(strides or [1] * rank), padding, list(dilations or [1] * rank), group)


def conv_transpose(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, auto_pad: str = "NOTSET", dilations: Axes | None = None,
    group: int = 1, kernel_shape: Axes | None = None, output_padding: Axes | None = None,
    output_shape: Axes | None = None, pads: Axes | None = None, strides: Axes | None = None,
) -> Tensor:  # fmt: skip
    rank = x.dim() - 2
    run: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    steps, dilation = list(strides or [1] * rank), list(dilations or [1] * rank)
    extra, padding = list(output_padding or [0] * rank), list(pads or [0] * 2 * rank)
    wanted = list(output_shape or ())[-rank:]
    if auto_pad.startswith("SAME") and not wanted:
        wanted = [extent * step for extent, step in zip(x.shape[2:], steps, strict=True)]
    if not wanted and padding[:rank] == padding[rank:]:
        return run(x, w, b, steps, padding[:rank], extra, group, dilation)
    whole = run(x, w, b, steps, 0, extra, group, dilation)
    if wanted:  # what is cut off on both sides together; the larger half is cut off in front, but for SAME_UPPER
        cut = [extent - out for extent, out in zip(whole.shape[2:], wanted, strict=True)]
        small, large = [total // 2 for total in cut], [total - total // 2 for total in cut]
        padding = small + large if auto_pad == "SAME_UPPER" else large + small
    return F.pad(whole, [-end for axis in reversed(range(rank)) for end in (padding[axis], padding[rank + axis])])


def max_pool(
    x: Tensor, *, kernel_shape: Axes, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Axes | None = None,
    pads: Axes | None = None, storage_order: int = 0, strides: Axes | None = None,
) -> Tensor:  # fmt: skip
    require(auto_pad in ("NOTSET", "VALID"), f"auto_pad {auto_pad}")
    rank = x.dim() - 2
    x, padding = split_pads(x, pads, -math.inf)
    if any(2 * pad > width for pad, width in zip(padding, kernel_shape, strict=True)):  # torch refuses these
        x, padding = F.pad(x, [p for pad in reversed(padding) for p in (pad, pad)], value=-math.inf), [0] * rank
    run: Callable[..., Tensor] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    ones = [1] * rank
    return run(
        x, list(kernel_shape), list(strides or ones), padding, list(dilations or ones), ceil_mode=bool(ceil_mode)
    )


def average_pool(
    x: Tensor, *, kernel_shape: Axes, auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
    dilations: Axes | None = None, pads: Axes | None = None, strides: Axes | None = None,
) -> Tensor:  # fmt: skip
    require(auto_pad in ("NOTSET", "VALID"), f"auto_pad {auto_pad}")
    require(all(step == 1 for step in dilations or ()), "dilated average pooling")
    rank = x.dim() - 2
    run: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    kernel, steps, ceil = list(kernel_shape), list(strides or [1] * rank), bool(ceil_mode)
    padded, padding = split_pads(x, pads, 0.0)
    if padded is x and all(2 * pad <= width for pad, width in zip(padding, kernel, strict=True)):
        return run(x, kernel, steps, padding, ceil, bool(count_include_pad))
    require(padded is not x, "average pooling with padding wider than half its kernel")
    mean = run(padded, kernel, steps, padding, ceil, True)
    if count_include_pad:
        return mean
    # The share of each window that lies inside x: the mean of ones, padded by zeros.
    inside, _ = split_pads(torch.ones([1, 1, *x.shape[2:]], dtype=x.dtype, device=x.device), pads, 0.0)
    return mean / run(inside, kernel, steps, padding, ceil, True)


def global_average_pool(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


def global_max_pool(x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


OPERATORS: Forms = {
    "AveragePool": average_pool,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
}
