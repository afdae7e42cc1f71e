"""The matrices of Winograd convolutions are exact, and what they lose in float32 is bounded."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from kernels.winograd import TAPS, TILES, matrices, multiplications, transformed_weight

LARGEST_ERROR = {2: 1e-6, 4: 8e-6, 6: 3e-5}
"""Of float32 arithmetic against float64, relative to the largest output, for 256 channels of normal numbers."""


@pytest.mark.parametrize("m", TILES)
def test_one_row_of_outputs_is_exact_in_fractions(m: int) -> None:
    a_t, g, b_t = matrices(m)
    rng = np.random.default_rng(m)
    data = [Fraction(int(v)) for v in rng.integers(-9, 9, m + 2)]
    taps = [Fraction(int(v)) for v in rng.integers(-9, 9, TAPS)]
    left = [sum(c * t for c, t in zip(row, taps, strict=True)) for row in g]
    right = [sum(c * d for c, d in zip(row, data, strict=True)) for row in b_t]
    got = [sum(c * u * v for c, u, v in zip(row, left, right, strict=True)) for row in a_t]
    assert got == [sum(data[i + k] * taps[k] for k in range(TAPS)) for i in range(m)]


@pytest.mark.parametrize("m", TILES)
def test_the_error_of_float32_is_bounded(m: int) -> None:
    a_t, _, b_t = (np.array(matrix, np.float32) for matrix in matrices(m))
    rng = np.random.default_rng(0)
    data = rng.standard_normal((256, m + 2, m + 2)).astype(np.float32)
    weight = rng.standard_normal((8, 256, 3, 3)).astype(np.float32)
    products = np.einsum("rsoc,crs->ors", transformed_weight(weight, m), b_t @ data @ b_t.T, dtype=np.float32)
    got = a_t @ products @ a_t.T
    windows = np.lib.stride_tricks.sliding_window_view(data.astype(np.float64), (3, 3), axis=(1, 2))
    expected = np.einsum("cyxab,ocab->oyx", windows, weight.astype(np.float64))
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert 0.1 * LARGEST_ERROR[m] < error < LARGEST_ERROR[m]


def test_larger_tiles_multiply_less_where_they_fit() -> None:
    assert multiplications(12, 12, 4) == 36 * 9
    assert multiplications(12, 12, 6) == 64 * 4
    assert multiplications(7, 7, 2) == 16 * 16  # the last tiles stand over the edge
