"""What an output must be, without storing all of it: sampled values, and signed sums of every element.

A host that only measures can check with numpy alone. Outputs of at most SAMPLES elements are stored whole. Of
larger ones SAMPLES values are, spread evenly, each with the full tolerance; and for every SEGMENT consecutive elements
one sum with fixed pseudo-random signs. If each element is off by at most b_i, such a sum is off by more than
`6.5 sqrt(sum b_i^2)` with a chance of 2 exp(-6.5^2 / 2) = 1.3e-9 (Hoeffding, "Probability inequalities for sums of
bounded random variables", 1963): that is its tolerance. NaN anywhere, which is what outputs hold before they are
written, fails the sum it is in. What is not detected: single elements that were not sampled and are off by
less than about a hundred times the tolerance (6.5 times the square root of SEGMENT).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = 8192
SEGMENT = 256
_DEVIATIONS = 6.5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Expected:
    """`values` at `positions(size)`; `sums` [segments, 2]: each segment's signed sum and its tolerance, None where
    `values` is everything. Where a segment holds infinity or NaN its sum is NaN, and that sum is not checked."""

    values: Floats
    sums: Floats | None
    rtol: float
    atol: float


def expect(output: NDArray[Any], rtol: float, atol: float) -> Expected:
    """The expectation for a right output; |actual - expected| <= rtol |expected| + atol is accepted."""
    flat = np.asarray(output, np.float64).ravel()
    values = flat[positions(flat.size)]
    if flat.size <= SAMPLES:
        return Expected(values, None, rtol, atol)
    sums = _signed_sums(flat)
    with np.errstate(all="ignore"):
        bounds = rtol * np.abs(flat) + atol
        widths = _DEVIATIONS * np.sqrt(_segments(bounds * bounds).sum(axis=1))
    sums[~np.isfinite(widths)] = np.nan
    return Expected(values, np.stack([sums, widths], axis=1), rtol, atol)


class OutputChecker:
    """Checks outputs against an expectation, with the results of `kernels.reference.Expectation`."""

    def __init__(self, expected: Expected, size: int) -> None:
        """Raises ValueError when the expectation is not one for an output of `size` elements."""
        segments = None if size <= SAMPLES else -(-size // SEGMENT)
        sums = None if expected.sums is None else expected.sums.shape[0]
        if expected.values.size != min(size, SAMPLES) or sums != segments:
            raise ValueError(f"an expectation of {expected.values.size} values for an output of {size}")
        self._expected = expected
        self._positions = positions(size)

    def check(self, output: NDArray[Any]) -> tuple[bool, float, float, str]:
        """(right, greatest absolute error of the sampled values, the same over their rms, why not)."""
        want = self._expected.values
        flat = np.asarray(output, np.float64).ravel()
        got = flat[self._positions]
        with np.errstate(all="ignore"):
            error = np.abs(got - want)
            same = (got == want) | (np.isnan(got) & np.isnan(want))
            wrong = ~same & ~(error <= self._expected.rtol * np.abs(want) + self._expected.atol)
        finite = np.isfinite(error)
        worst = float(error[finite].max(initial=0.0))
        present = want[np.isfinite(want)]
        scale = math.sqrt(float(np.mean(np.square(present)))) if present.size else 0.0
        relative = worst / scale if scale > 0 else 0.0
        if wrong.any():
            at = int(np.argmax(wrong))
            where = f"{int(wrong.sum())} of {want.size} sampled values wrong, first at {int(self._positions[at])}"
            return False, worst, relative, f"{where}: {got[at]:.9g}, expected {want[at]:.9g}"
        reason = self._check_sums(flat)
        return not reason, worst, relative, reason

    def _check_sums(self, flat: Floats) -> str:
        """What is wrong with the sums, or ""."""
        if self._expected.sums is None:
            return ""
        want, width = self._expected.sums[:, 0], self._expected.sums[:, 1]
        with np.errstate(all="ignore"):
            off = np.abs(_signed_sums(flat) - want)
        wrong = ~(off <= width) & ~np.isnan(want)
        if not wrong.any():
            return ""
        at = int(np.argmax(wrong)) * SEGMENT
        return f"{int(wrong.sum())} of {want.size} checksums wrong, first of elements {at} to {at + SEGMENT - 1}"


def positions(size: int) -> NDArray[np.int64]:
    """Min(size, SAMPLES) distinct element numbers, spread evenly: multiples of the golden section of `size`."""
    if size <= SAMPLES:
        return np.arange(size, dtype=np.int64)
    step = int(size * 0.6180339887498949)
    while math.gcd(step, size) != 1:
        step += 1
    return np.arange(SAMPLES, dtype=np.int64) * step % size


def _signed_sums(flat: Floats) -> Floats:
    with np.errstate(all="ignore"):
        sums: Floats = _segments(flat * _signs(flat.size)).sum(axis=1)
    return sums


def _segments(flat: Floats) -> Floats:
    """[segments, SEGMENT], with zeros after the end."""
    return np.pad(flat, (0, -flat.size % SEGMENT)).reshape(-1, SEGMENT)


def _signs(size: int) -> Floats:
    """A fixed sequence of +1 and -1 (splitmix64 of the position): every host has the same."""
    x = np.arange(size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where((x >> np.uint64(63)).astype(bool), 1.0, -1.0)


def from_bytes(values: bytes, sums: bytes | None, rtol: float, atol: float) -> Expected:
    """The inverse of `to_bytes`. Raises ValueError for bytes that are no float64 numbers."""
    table = None if sums is None else np.frombuffer(sums, "<f8").reshape(-1, 2)
    return Expected(np.frombuffer(values, "<f8"), table, rtol, atol)


def to_bytes(expected: Expected) -> tuple[bytes, bytes | None]:
    """Values and sums as little-endian float64."""
    sums = None if expected.sums is None else expected.sums.astype("<f8").tobytes()
    return expected.values.astype("<f8").tobytes(), sums
