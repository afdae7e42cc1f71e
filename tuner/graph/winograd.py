"""3x3 convolutions by Winograd's minimal filtering, on packed data and weights transformed at build time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from kernels import winograd
from kernels.winograd import Matrix, tiles
from tuner.graph.convolution import Geometry
from tuner.graph.rewriter import Array

_LEAST_SAVED = 0.85
"""Multiplications must be fewer than this share of those of the direct form, and of a smaller tile."""

_CACHED_BYTES = 4 << 20
"""Weights that stay in the caches from one block of tiles to the next."""

_LEAST_CHANNELS = 16
"""Below so many channels on either side the transforms cost more than is saved."""


def sizes(geometry: Geometry, dtype: str) -> tuple[int, ...]:
    """The m of each F(m x m, 3 x 3) that is worth a search for a convolution, none where none is.

    A larger tile must save multiplications, since it loses digits. F(2 x 2) is of use only where the weights of
    F(4 x 4), which grow with (m + 2)^2, are too many for the caches.
    """
    height, width = geometry.out_hw
    out_channels, in_channels = geometry.weight[:2]
    plain = geometry.groups == 1 and geometry.strides == geometry.dilation == (1, 1) and dtype == "float32"
    if not plain or geometry.weight[2:] != (3, 3) or min(out_channels, in_channels) < _LEAST_CHANNELS:
        return ()
    found: list[int] = []
    least = 9 * height * width
    for m in winograd.TILES:
        if min(height, width) < m or winograd.multiplications(height, width, m) > _LEAST_SAVED * least:
            continue
        least = winograd.multiplications(height, width, m)
        if m == 4 and 4 * (m + 2) ** 2 * out_channels * in_channels <= _CACHED_BYTES:
            found.clear()
        found.append(m)
    return tuple(found)


def flops(geometry: Geometry, m: int) -> float:
    """Arithmetic of the products; the transforms are left out: it is a lower bound."""
    height, width = geometry.out_hw
    out_channels, in_channels = geometry.weight[:2]
    return 2.0 * geometry.data[0] * out_channels * in_channels * winograd.multiplications(height, width, m)


def pack_weight(weight: Array, m: int, in_block: int, out_block: int) -> Array:
    """[O, I, 3, 3] -> transformed, [m + 2, m + 2, O/out, I/in, in, out]."""
    transformed = winograd.transformed_weight(weight, m)
    size, _, o, i = transformed.shape
    split = transformed.reshape(size, size, o // out_block, out_block, i // in_block, in_block)
    return np.ascontiguousarray(split.transpose(0, 1, 2, 4, 5, 3))


def convolution(geometry: Geometry, m: int, in_block: int, out_block: int) -> Callable[[Any, Any], Any]:
    """TE of a 3x3 convolution; data are [N, C/in, H, W, in], weights those of `pack_weight`."""
    a_t, _, b_t = winograd.matrices(m)
    size = m + 2
    n, c, h, w = geometry.data
    chunks, out_chunks = c // in_block, geometry.weight[0] // out_block
    height, width = geometry.out_hw
    rows, columns = tiles(height, m), tiles(width, m)
    top, left, _, _ = geometry.padding

    def compute(data: Any, weight: Any) -> Any:
        zero = tirx.const(0.0, data.dtype)

        def padded(i: Any, j: Any, y: Any, x: Any, k: Any) -> Any:
            inside = tirx.all(y >= top, y < h + top, x >= left, x < w + left)
            return tirx.if_then_else(inside, data[i, j, y - top, x - left, k], zero)

        pad = te.compute((n, chunks, rows * m + 2, columns * m + 2, in_block), padded, winograd.PAD)
        rows_in = te.compute(
            (n, chunks, rows, columns, size, size, in_block),
            lambda i, j, ty, tx, r, s, k: _row(b_t, r, [pad[i, j, ty * m + a, tx * m + s, k] for a in range(size)]),
            winograd.ROWS_IN,
        )
        transformed = te.compute(
            (size, size, n, chunks, rows, columns, in_block),
            lambda r, s, i, j, ty, tx, k: _row(b_t, s, [rows_in[i, j, ty, tx, r, a, k] for a in range(size)]),
            winograd.INPUT,
        )
        ico, ici = te.reduce_axis((0, chunks), "ico"), te.reduce_axis((0, in_block), "ici")
        product = te.compute(
            (size, size, n, out_chunks, rows, columns, out_block),
            lambda r, s, i, oc, ty, tx, k: te.sum(
                transformed[r, s, i, ico, ty, tx, ici] * weight[r, s, oc, ico, ici, k], axis=[ico, ici]
            ),
            winograd.PRODUCT,
        )
        rows_out = te.compute(
            (n, out_chunks, rows, columns, m, size, out_block),
            lambda i, oc, ty, tx, u, s, k: _row(a_t, u, [product[a, s, i, oc, ty, tx, k] for a in range(size)]),
            winograd.ROWS_OUT,
        )
        return te.compute(
            (n, out_chunks, height, width, out_block),
            lambda i, oc, y, x, k: _row(
                a_t, x % m, [rows_out[i, oc, y // m, x // m, y % m, a, k] for a in range(size)]
            ),
            winograd.OUTPUT,
        )

    return compute


def _row(matrix: Matrix, index: Any, terms: Sequence[Any]) -> Any:
    """Row `index` of a constant matrix times a vector of terms, as one expression of each row.

    Unrolled, the index is a number, and what is left is one row without its zeros and ones.
    """
    value = _combination(matrix[-1], terms)
    for number in reversed(range(len(matrix) - 1)):
        value = tirx.Select(index == number, _combination(matrix[number], terms), value)
    return value


def _combination(coefficients: Sequence[Any], terms: Sequence[Any]) -> Any:
    """The sum of the terms times their coefficients, those that are one or minus one without a multiplication."""
    value: Any = None
    for coefficient, term in sorted(zip(coefficients, terms, strict=True), key=lambda pair: pair[0] < 0):
        if coefficient == 0:
            continue
        part = term if abs(coefficient) == 1 else term * tirx.const(float(abs(coefficient)), term.dtype)
        if value is None:
            value = part if coefficient > 0 else tirx.const(0.0, term.dtype) - part
        else:
            value = value + part if coefficient > 0 else value - part
    return value
