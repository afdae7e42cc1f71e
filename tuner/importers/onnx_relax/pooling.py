"""Pooling over windows, and the transposed convolution, whose windows are the same the other way round."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.importers.onnx_relax.node import (
    Any,
    Array,
    Converter,
    Node,
    Unsupported,
    array_of,
    const,
    relax,
    shape_of,
    te,
)
from tuner.importers.onnx_relax.padding import cropped


@dataclass(frozen=True)
class Windows:
    """How windows lie on the spatial axes: `pads` as the model gives them, `ends` such that the last window fits."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    pads: list[int]
    ends: list[int]
    extents: list[int]

    @property
    def padding(self) -> list[int]:
        return [*self.begins, *self.ends]


def windows(node: Node) -> Windows:
    """The windows of a pooling node (formulas of the ONNX operator documentation)."""
    spatial = node.shape()[2:]
    ones = [1] * len(spatial)
    kernel = [int(width) for width in node.attributes["kernel_shape"]]
    strides = [int(stride) for stride in node.attributes.get("strides", ones)]
    dilations = [int(dilation) for dilation in node.attributes.get("dilations", ones)]
    pads = [int(pad) for pad in node.attributes.get("pads", [0] * 2 * len(spatial))]
    mode = node.text("auto_pad", "NOTSET")
    if mode != "NOTSET":
        pads = automatic_pads(mode, spatial, kernel, strides, dilations)
    begins, after = pads[: len(spatial)], pads[len(spatial) :]
    extents, ends = [], []
    for axis, extent in enumerate(spatial):
        width = (kernel[axis] - 1) * dilations[axis] + 1
        room = extent + begins[axis] + after[axis] - width
        steps = room // strides[axis]
        if node.attributes.get("ceil_mode", 0):
            steps = -(-room // strides[axis])
            if steps * strides[axis] >= extent + begins[axis]:
                steps -= 1  # a window that begins in the padding at the end is none
        extents.append(steps + 1)
        ends.append(max(0, steps * strides[axis] + width - extent - begins[axis]))
    return Windows(kernel, strides, dilations, begins, after, ends, extents)


def automatic_pads(
    mode: str, spatial: Sequence[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """What `auto_pad` stands for: the pads at the beginnings, then those at the ends."""
    begins, ends = [], []
    for extent, width, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        total = max(0, (-(-extent // stride) - 1) * stride + (width - 1) * dilation + 1 - extent)
        small, large = (0, 0) if mode == "VALID" else (total // 2, total - total // 2)
        begins.append(large if mode == "SAME_LOWER" else small)
        ends.append(small if mode == "SAME_LOWER" else large)
    return [*begins, *ends]


def _pooled(node: Node, value: Any, kind: str, w: Windows, **options: Any) -> Any:
    rank = len(w.kernel)
    if rank not in (1, 2, 3):
        raise Unsupported(f"windows over {rank} axes")
    pool = getattr(relax.op.nn, f"{kind}_pool{rank}d")
    return node.emit(pool(value, w.kernel, w.strides, w.padding, w.dilations, **options))


def max_pool(node: Node) -> Any:
    """MaxPool, with the indices of the largest elements where the model wants them."""
    w = windows(node)
    best = _pooled(node, node.input(0), "max", w)
    return (best, _indices(node, best, w)) if node.wants(1) else best


def _indices(node: Node, best: Any, w: Windows) -> Any:
    """Where in the flattened input each largest element stands; the first of equal ones."""
    shape = node.shape()
    rank = len(w.kernel)
    none = np.iinfo(np.int64).max

    def kernel(x: te.Tensor, largest: te.Tensor) -> te.Tensor:
        taps = [te.reduce_axis((0, width), f"k{axis}") for axis, width in enumerate(w.kernel)]

        def element(*place: Any) -> Any:
            at = [place[2 + a] * w.strides[a] + taps[a] * w.dilations[a] - w.begins[a] for a in range(rank)]
            inside = te.all(*(te.all(i >= 0, i < extent) for i, extent in zip(at, shape[2:], strict=True)))
            flat: Any = place[0].astype("int64")
            for index, extent in zip((place[1], *at), shape[1:], strict=True):
                flat = flat * extent + index.astype("int64")
            found = te.if_then_else(inside, x(place[0], place[1], *at), largest(*place)) == largest(*place)
            return te.min(te.if_then_else(te.all(inside, found), flat, te.const(none, "int64")), axis=taps)

        return te.compute([*shape[:2], *w.extents], element, name="indices")

    indices = node.te(kernel, node.input(0), best, name="max_pool_indices")
    return _column_major(node, indices, shape) if node.attributes.get("storage_order", 0) else indices


def _column_major(node: Node, indices: Any, shape: Sequence[int]) -> Any:
    inner = math.prod(shape[2:])

    def kernel(x: te.Tensor) -> te.Tensor:
        def element(*place: Any) -> Any:
            rest, flat, step = x(*place) % inner, x(*place) // inner * inner, inner
            turned: Any = te.const(0, "int64")
            unit = 1
            for extent in shape[2:]:
                step //= extent
                turned = turned + rest // step % extent * unit
                unit *= extent
            return flat + turned

        return te.compute(x.shape, element, name="column_major")

    return node.te(kernel, indices, name="column_major")


def average_pool(node: Node) -> Any:
    """AveragePool. Where windows reach beyond the padding, what they find there is not counted."""
    w = windows(node)
    value, dtype = node.input(0), node.dtype()
    counted = bool(node.attributes.get("count_include_pad", 0))
    beyond = any(end > pad for end, pad in zip(w.ends, w.pads, strict=True))
    if not beyond and set(w.dilations) == {1}:
        return _pooled(node, value, "avg", w, count_include_pad=counted)
    whole = _pooled(node, value, "avg", w, count_include_pad=True)
    return node.emit(relax.op.multiply(whole, const(math.prod(w.kernel) / _counts(node, w, counted), dtype)))


def _counts(node: Node, w: Windows, counted: bool) -> Array:
    """How many elements each window holds, as a tensor that broadcasts; at least 1."""
    total: Array = np.ones((1, 1), np.float64)
    for axis, extent in enumerate(node.shape()[2:]):
        starts = np.arange(w.extents[axis])[:, None] * w.strides[axis] - w.begins[axis]
        places = starts + np.arange(w.kernel[axis]) * w.dilations[axis]
        low, high = (-w.begins[axis], extent + w.pads[axis]) if counted else (0, extent)
        total = total[..., None] * ((places >= low) & (places < high)).sum(axis=1)
    return np.maximum(total, 1)


def lp_pool(node: Node) -> Any:
    """LpPool: the p-th root of the sum of p-th powers of what is in a window."""
    w = windows(node)
    dtype, p = node.dtype(), float(node.attributes.get("p", 2))
    powers = relax.op.power(relax.op.abs(node.input(0)), const(p, dtype))
    mean = _pooled(node, node.emit(powers), "avg", w, count_include_pad=True)
    total = relax.op.multiply(mean, const(math.prod(w.kernel), dtype))
    return node.emit(relax.op.power(total, const(1 / p, dtype)))


def max_unpool(node: Node) -> Any:
    """MaxUnpool: every element goes to the place that its index tells, everything else is 0."""
    shape = node.shape()
    kernel = [int(width) for width in node.attributes["kernel_shape"]]
    strides = node.attributes.get("strides", [1] * len(kernel))
    pads = node.attributes.get("pads", [0] * 2 * len(kernel))
    inferred = [*shape[:2], *(
        (extent - 1) * strides[a] - pads[a] - pads[a + len(kernel)] + kernel[a] for a, extent in enumerate(shape[2:])
    )]  # fmt: skip
    wanted = node.constant(2)
    final = inferred if wanted is None else [int(extent) for extent in wanted]
    zeros = const(np.zeros(math.prod(inferred)), node.dtype())
    flat = [node.emit(relax.op.reshape(node.input(index), (-1,))) for index in (0, 1)]
    spread = node.emit(relax.op.scatter_elements(zeros, flat[1], flat[0], 0))
    value = node.emit(relax.op.reshape(spread, inferred))
    more = [wide - extent for wide, extent in zip(final, inferred, strict=True)]
    return _ending(node, value, more)


def _ending(node: Node, value: Any, more: Sequence[int]) -> Any:
    """So many elements of zero more at the end of each axis, or fewer."""
    value = cropped(node, value, [0] * len(more), [max(0, -extra) for extra in more])
    widths = list(itertools.chain.from_iterable((0, max(0, extra)) for extra in more))
    return node.emit(relax.op.nn.pad(value, widths)) if any(widths) else value


def conv_transpose(node: Node) -> Any:
    """ConvTranspose over one to three axes; `output_shape`, automatic padding and dilations are worked out here."""
    shape, weight = node.shape(), node.input(1)
    rank = len(shape) - 2
    if rank not in (1, 2, 3):
        raise Unsupported(f"a kernel over {rank} axes")
    ones = [1] * rank
    strides = [int(stride) for stride in node.attributes.get("strides", ones)]
    dilations = [int(dilation) for dilation in node.attributes.get("dilations", ones)]
    weight = _dilated(node, weight, dilations)
    widths = list(shape_of(weight)[2:])
    begins, ends = _transposed_pads(node, shape[2:], strides, widths)
    # TVM takes no padding below zero or wider than the kernel: what is left over is cropped, or zeros.
    inner = [[min(max(pad, 0), width - 1) for pad, width in zip(side, widths, strict=True)] for side in (begins, ends)]
    layouts = {1: ("NCW", "IOW"), 2: ("NCHW", "IOHW"), 3: ("NCDHW", "IODHW")}[rank]
    operator = getattr(relax.op.nn, f"conv{rank}d_transpose")
    value = node.emit(operator(
        node.input(0), weight, strides, [*inner[0], *inner[1]], [0] * rank, [1] * rank,
        int(node.attributes.get("group", 1)), *layouts,
    ))  # fmt: skip
    begin = [low - used for low, used in zip(begins, inner[0], strict=True)]
    end = [high - used for high, used in zip(ends, inner[1], strict=True)]
    value = cropped(node, value, [0, 0, *(max(0, b) for b in begin)], [0, 0, *(max(0, e) for e in end)])
    more = [[0, 0], [0, 0], *([max(0, -low), max(0, -high)] for low, high in zip(begin, end, strict=True))]
    if any(map(any, more)):
        value = node.emit(relax.op.nn.pad(value, list(itertools.chain.from_iterable(more))))
    bias = node.input(2)
    if bias is None:
        return value
    return node.emit(relax.op.add(value, relax.op.reshape(bias, (1, -1, *ones))))


def _dilated(node: Node, weight: Any, dilations: Sequence[int]) -> Any:
    if set(dilations) == {1}:
        return weight
    shape = shape_of(weight)
    extents = [(width - 1) * d + 1 for width, d in zip(shape[2:], dilations, strict=True)]
    array = array_of(weight)
    if array is not None:
        spread = np.zeros([*shape[:2], *extents], array.dtype)
        spread[(slice(None), slice(None), *(slice(None, None, d) for d in dilations))] = array
        return const(spread, str(weight.ty.dtype))

    def kernel(x: te.Tensor) -> te.Tensor:
        def element(*place: Any) -> Any:
            hits = te.all(*(index % d == 0 for index, d in zip(place[2:], dilations, strict=True)))
            source = x(*place[:2], *(index // d for index, d in zip(place[2:], dilations, strict=True)))
            return te.if_then_else(hits, source, te.const(0, x.dtype))

        return te.compute([*shape[:2], *extents], element, name="dilated")

    return node.te(kernel, weight, name="dilate")


def _transposed_pads(
    node: Node, spatial: Sequence[int], strides: Sequence[int], widths: Sequence[int]
) -> tuple[list[int], list[int]]:
    """How much is cropped at the beginning and at the end of each axis; below zero, what is added."""
    rank = len(spatial)
    extra = [int(pad) for pad in node.attributes.get("output_padding", [0] * rank)]
    wanted = node.attributes.get("output_shape")
    mode = node.text("auto_pad", "NOTSET")
    if wanted is not None:
        wanted = wanted[-rank:]
    elif mode.startswith("SAME"):
        wanted = [
            min(extent * stride, (extent - 1) * stride + width + more)
            for extent, stride, width, more in zip(spatial, strides, widths, extra, strict=True)
        ]
    if wanted is None:
        pads = [int(pad) for pad in node.attributes.get("pads", [0] * 2 * rank)] if mode == "NOTSET" else [0] * 2 * rank
        return pads[:rank], [pad - more for pad, more in zip(pads[rank:], extra, strict=True)]
    begins, ends = [], []
    for axis, extent in enumerate(spatial):
        full = strides[axis] * (extent - 1) + widths[axis]
        total = max(0, full + extra[axis] - wanted[axis])
        begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
        begins.append(begin)
        ends.append(full - begin - wanted[axis])
    return begins, ends


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "AveragePool"): average_pool,
    ("", "ConvTranspose"): conv_transpose,
    ("", "LpPool"): lp_pool,
    ("", "MaxPool"): max_pool,
    ("", "MaxUnpool"): max_unpool,
}
