"""Winograd's minimal filtering: the matrices of F(m x m, 3 x 3), exact, and what they cost.

m x m outputs of a 3x3 convolution are A^T [(G g G^T) * (B^T d B)] A: with m = 4, 36 multiplications in place of 144.
After Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016); the matrices are those of Toom
and Cook for the interpolation points below and infinity.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

TAPS = 3
"""Rows and columns of the filter."""

TILES = (2, 4, 6)
"""The outputs of a tile in each direction, m, that there are matrices for."""

_POINTS: dict[int, tuple[Fraction, ...]] = {
    2: tuple(map(Fraction, (0, 1, -1))),
    4: tuple(map(Fraction, (0, 1, -1, 2, -2))),
    6: (*map(Fraction, (0, 1, -1, 2, -2)), Fraction(1, 2), Fraction(-1, 2)),
}

Matrix = tuple[tuple[Fraction, ...], ...]

PAD = "winograd_pad"
ROWS_IN = "winograd_rows_in"
INPUT = "winograd_input"
PRODUCT = "winograd_product"
ROWS_OUT = "winograd_rows_out"
OUTPUT = "winograd_output"
"""The names of a program's blocks, by which the sketch rule knows it: padding, B^T d, (B^T d) B, the products, A^T M,
(A^T M) A."""


@functools.lru_cache
def matrices(m: int) -> tuple[Matrix, Matrix, Matrix]:
    """A^T [m, m + 2], G [m + 2, 3] and B^T [m + 2, m + 2]. Raises KeyError where m is none of TILES."""
    points = _POINTS[m]
    size = m + TAPS - 1
    last = size - 1
    a_t = [[p**i for p in points] + [Fraction(int(i == m - 1))] for i in range(m)]
    g, b_t = [], []
    for at, point in enumerate(points):
        others = [p for i, p in enumerate(points) if i != at]
        scale = math.prod((point - other for other in others), start=Fraction(1))
        g.append([point**k / scale for k in range(TAPS)])
        b_t.append([*_coefficients(others), Fraction(0)])
    g.append([Fraction(int(k == TAPS - 1)) for k in range(TAPS)])
    b_t.append(_coefficients(points))
    assert len(b_t) == size and len(b_t[last]) == size
    return _frozen(a_t), _frozen(g), _frozen(b_t)


def transformed_weight(weight: NDArray[np.float32], m: int) -> NDArray[np.float32]:
    """G g G^T of filters [O, I, 3, 3]: [m + 2, m + 2, O, I], computed in float64."""
    g = np.array(matrices(m)[1], np.float64)
    filters = weight.reshape(-1, TAPS * TAPS).astype(np.float64)
    transformed = (np.kron(g, g) @ filters.T).astype(np.float32)
    return transformed.reshape(len(g), len(g), *weight.shape[:2])


def tiles(extent: int, m: int) -> int:
    """How many tiles cover so many outputs in one direction."""
    return -(-extent // m)


def multiplications(height: int, width: int, m: int) -> int:
    """Multiplications for one pair of channels and outputs [height, width]; the direct form needs 9 an output."""
    return (m + TAPS - 1) ** 2 * tiles(height, m) * tiles(width, m)


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Of the polynomial with these roots, lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _frozen(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)
