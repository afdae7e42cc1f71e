"""ONNX operators written with torch: one function each, its keywords named as the operator's attributes.

Values are torch tensors; the inputs that `LITERAL_INPUTS` lists (shapes, axes, bounds) are Python numbers
and lists instead. A keyword `opset` receives the version of the operator set. Semantics:
https://onnx.ai/onnx/operators. Functions that cannot serve an attribute value raise NotImplementedError.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Axes = Sequence[int]

LITERAL_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "CumSum": (1,),
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "ReduceL2": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
DTYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64,
          9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}  # fmt: skip
"""onnx.TensorProto.DataType -> torch."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise NotImplementedError(what)


# --- windows ------------------------------------------------------------------------------------


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
    group: int = 1, kernel_shape: Axes | None = None, output_padding: Axes | None = None, pads: Axes | None = None,
    strides: Axes | None = None,
) -> Tensor:  # fmt: skip
    rank = x.dim() - 2
    padding = list(pads or [0] * 2 * rank)
    require(auto_pad in ("NOTSET", "VALID") and padding[:rank] == padding[rank:], "uneven or automatic padding")
    run: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    ones = [1] * rank
    extra = list(output_padding or [0] * rank)
    return run(x, w, b, list(strides or ones), padding[:rank], extra, group, list(dilations or ones))


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


# --- normalization --------------------------------------------------------------------------------


def batch_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float = 1e-5,
    momentum: float = 0.9, spatial: int = 1, training_mode: int = 0, consumed_inputs: Axes = (), is_test: int = 0,
) -> Tensor:  # fmt: skip
    require(not training_mode and spatial == 1, "batch normalization in training mode or not over space")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, None, None, scale, bias, eps=epsilon)


def layer_normalization(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return F.layer_norm(x, x.shape[axis:], scale.expand(x.shape[axis:]), bias, epsilon)


def lrn(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    if size % 2:
        return F.local_response_norm(x, size, alpha, beta, bias)
    # An even window reaches one further ahead in ONNX and one further back in torch.
    return F.local_response_norm(x.flip(1), size, alpha, beta, bias).flip(1)


def softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    if opset >= 13:
        return x.softmax(-1 if axis is None else axis)
    axis = 1 if axis is None else axis % x.dim()  # before opset 13: over all dimensions from `axis` on
    if axis == x.dim() - 1:
        return x.softmax(-1)
    return x.flatten(axis).softmax(-1).reshape(x.shape)


def log_softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    if opset >= 13:
        return x.log_softmax(-1 if axis is None else axis)
    axis = 1 if axis is None else axis % x.dim()
    return x.flatten(axis).log_softmax(-1).reshape(x.shape)


# --- arithmetic ---------------------------------------------------------------------------------


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


# --- shapes and indices -----------------------------------------------------------------------------


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
    require(mode in ("reflect", "edge") and not any(flat[-4:]), f"padding mode {mode} of the outer dimensions")
    return F.pad(x, flat[:-4], mode="replicate" if mode == "edge" else mode)


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
    parts = x.reshape(n, blocksize, blocksize, c // blocksize**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // blocksize**2, h * blocksize, w * blocksize)


def identity(x: Tensor) -> Tensor:
    return x


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "CumSum": cum_sum,
    "DepthToSpace": depth_to_space,
    "Div": div,
    "Elu": elu,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "HardSigmoid": hard_sigmoid,
    "Identity": identity,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LeakyRelu": leaky_relu,
    "LogSoftmax": log_softmax,
    "Max": max_of,
    "MaxPool": max_pool,
    "Mean": mean_of,
    "Min": min_of,
    "Mod": mod,
    "PRelu": prelu,
    "Pad": pad,
    "ReduceL2": reduce_l2,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "ReduceMin": reduce_min,
    "ReduceSum": reduce_sum,
    "Reshape": reshape,
    "Slice": slice_,
    "Softmax": softmax,
    "Split": split,
    "Squeeze": squeeze,
    "Sum": sum_of,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
DIRECT: Mapping[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": F.hardswish,
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
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Where": torch.where,
}
"""Operators without attributes that torch has as they are."""
