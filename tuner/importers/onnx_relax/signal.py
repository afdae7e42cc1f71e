"""Fourier transforms as products with constant matrices, cumulative products, and images put together from columns."""

from __future__ import annotations

import math

import numpy as np

from tuner.importers.onnx_relax.node import (
    Any,
    Array,
    Converter,
    Node,
    Unsupported,
    axis_of,
    const,
    relax,
    shape_of,
    table,
    te,
)
from tuner.importers.onnx_relax.padding import cropped, padded

MOST_POINTS = 1 << 13
"""A transform of more points would be a matrix of over 256 MiB."""


def dft(node: Node) -> Any:
    """DFT along one axis, of real or complex numbers, and its inverse; the last axis is the real and imaginary part."""
    shape = node.shape()
    axis = axis_of(int(node.attributes.get("axis", 1)), len(shape))
    given = node.constant(2)
    if node.opset >= 20:
        axis = axis_of(-2 if given is None else int(given.reshape(-1)[0]), len(shape))
    length = node.constant(1)
    inverse, onesided = bool(node.attributes.get("inverse", 0)), bool(node.attributes.get("onesided", 0))
    halved = inverse and onesided  # from the half that real numbers leave, back to them
    default = 2 * (shape[axis] - 1) if halved else shape[axis]
    points = default if length is None else int(length.reshape(-1)[0])
    if points > MOST_POINTS:
        raise Unsupported(f"{points} points")
    more = [0] * len(shape)
    more[axis] = (points // 2 + 1 if halved else points) - shape[axis]
    value = padded(node, node.input(0), [0] * len(shape), more, "constant", const(0, node.dtype()))
    others = [a for a in range(len(shape) - 1) if a != axis]
    value = node.emit(relax.op.permute_dims(value, [*others, axis, len(shape) - 1]))
    matrix = _matrix_to_real(points) if halved else _matrix(points, points // 2 + 1 if onesided else points, inverse)
    made = _transformed(node, value, matrix)
    back = list(range(len(shape) - 2))
    back.insert(axis, len(shape) - 2)
    return node.emit(relax.op.permute_dims(made, [*back, len(shape) - 1]))


def _transformed(node: Node, value: Any, matrix: Array) -> Any:
    """(..., points, 1 or 2) times a matrix (points, 2, bins, parts), as (..., bins, parts)."""
    *outer, points, parts = shape_of(value)
    bins, made = matrix.shape[2:]
    weights = const(matrix[:, :parts].reshape(points * parts, bins * made), str(value.ty.dtype))
    flat = relax.op.reshape(value, (*outer, points * parts))
    return node.emit(relax.op.reshape(relax.op.matmul(flat, weights), (*outer, bins, made)))


def _matrix(points: int, bins: int, inverse: bool) -> Array:
    """What each part of each point adds to each part of each bin: (points, 2, bins, 2)."""
    turns = np.outer(np.arange(points), np.arange(bins)) % points  # exact, where angles of many turns are not
    angles = turns * (2 * math.pi / points) * (1 if inverse else -1)
    quarters = 4 * turns % points == 0  # there they are whole numbers, so that what is zero is exactly zero
    real, imaginary = (np.where(quarters, np.rint(part), part) for part in (np.cos(angles), np.sin(angles)))
    whole = np.stack([np.stack([real, imaginary], -1), np.stack([-imaginary, real], -1)], axis=1)
    return whole / points if inverse else whole


def _matrix_to_real(points: int) -> Array:
    """What each part of half the bins adds to each real point: (points // 2 + 1, 2, points, 1)."""
    bins = points // 2 + 1
    whole: Array = _matrix(points, points, inverse=True)[:bins, :, :, :1]
    twice = np.full(bins, 2.0)  # those that the other half repeats
    twice[0] = 1.0
    if points % 2 == 0:
        twice[-1] = 1.0
    made: Array = whole * twice[:, None, None, None]
    return made


def stft(node: Node) -> Any:
    """STFT: windows of the signal, each transformed."""
    batch, length = node.shape()[:2]
    step = int(node.required(1).reshape(-1)[0])
    window, given = node.input(2), node.constant(3)
    size = shape_of(window)[0] if given is None and window is not None else int(node.required(3).reshape(-1)[0])
    if size > MOST_POINTS:
        raise Unsupported(f"{size} points")
    frames = (length - size) // step + 1
    places = (np.arange(frames)[:, None] * step + np.arange(size)).reshape(-1)
    taken = relax.op.take(node.input(0), table(places), 1)
    parts = 2 if len(node.shape()) == 3 and node.shape()[2] == 2 else 1
    cells = node.emit(relax.op.reshape(taken, (batch, frames, size, parts)))
    if window is not None:
        cells = node.emit(relax.op.multiply(cells, relax.op.reshape(window, (1, 1, size, 1))))
    onesided = bool(node.attributes.get("onesided", 1)) and parts == 1
    return _transformed(node, cells, _matrix(size, size // 2 + 1 if onesided else size, inverse=False))


def cumulative_product(node: Node) -> Any:
    """CumProd along a constant axis, forwards or backwards, with or without an element itself."""
    shape, value, dtype = node.shape(), node.input(0), node.dtype()
    axis = axis_of(int(node.required(1).reshape(-1)[0]), len(shape))
    backwards = node.attributes.get("reverse", 0)
    if backwards:
        value = node.emit(relax.op.flip(value, axis))
    if node.attributes.get("exclusive", 0):
        none, one = [0] * len(shape), [int(a == axis) for a in range(len(shape))]
        value = cropped(node, padded(node, value, one, none, "constant", const(1, dtype)), none, one)
    made = node.emit(relax.op.cumprod(value, axis, dtype))
    return node.emit(relax.op.flip(made, axis)) if backwards else made


def col2im(node: Node) -> Any:
    """Col2Im: the columns of blocks are added up where the blocks lie in the image."""
    image = [int(extent) for extent in node.required(1)]
    block = [int(extent) for extent in node.required(2)]
    rank = len(image)
    strides = node.attributes.get("strides", [1] * rank)
    dilations = node.attributes.get("dilations", [1] * rank)
    pads = node.attributes.get("pads", [0] * 2 * rank)
    counts = [
        (image[a] + pads[a] + pads[a + rank] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1 for a in range(rank)
    ]
    batch, rows, _ = node.shape()
    channels = rows // math.prod(block)
    data = node.emit(relax.op.reshape(node.input(0), (batch, channels, *block, *counts)))

    def kernel(x: te.Tensor) -> te.Tensor:
        taps = [te.reduce_axis((0, width), f"k{a}") for a, width in enumerate(block)]

        def element(*place: Any) -> Any:
            at = [place[2 + a] + pads[a] - taps[a] * dilations[a] for a in range(rank)]
            hits = te.all(*(
                te.all(i >= 0, te.indexmod(i, stride) == 0, i < count * stride)
                for i, stride, count in zip(at, strides, counts, strict=True)
            ))  # fmt: skip
            cells = [te.max(0, te.min(te.indexdiv(i, s), count - 1))
                     for i, s, count in zip(at, strides, counts, strict=True)]  # fmt: skip
            return te.sum(te.if_then_else(hits, x(*place[:2], *taps, *cells), te.const(0, x.dtype)), axis=taps)

        return te.compute([batch, channels, *image], element, name="image")

    return node.te(kernel, data, name="col2im")


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Col2Im"): col2im,
    ("", "CumProd"): cumulative_product,
    ("", "DFT"): dft,
    ("", "STFT"): stft,
}
