"""Whether a model's outputs are right, told by the errors that right implementations make.

The reference is a float64 run (`Exact.outputs`). `Exact.noisy` are the same run with the rounding errors of the model's
own precision, and the outputs of baselines that passed are added to them (`Yardstick.with_peer`): together they sample
how large an error is to be expected, element by element. docs/measuring.md has the formulas and the error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.outputs import OutputCheck

Outputs = Sequence[NDArray[Any]]
Float64 = NDArray[np.float64]

ELEMENT_FACTOR = 256.0
"""By how much one element's error may pass what is expected of elements of its size. Winograd's F(6x6) makes 10 to 30
times the error of a direct convolution, and the largest of a million normal errors is 5 standard deviations."""

LARGEST_FACTOR = 24.0
"""By how much any error may pass the largest one of the samples: with a quantizer inside, errors are rare whole steps,
and their root mean square says little."""

CHANNEL_FACTOR = 64.0
"""The same for the root mean square of a channel, in which single large errors vanish."""

STEPS = 2.0**14
"""Roundings of an output's largest element: where the samples err by more, there is a quantizer inside, whose steps
are what they err by. Right implementations err by as many, and no algorithm makes them larger: the factors are
STEP_FACTORS (of an element, of the largest, of a channel) then."""

STEP_FACTORS = (8.0, 6.0, 4.0)

HALF_UNIT, HALF_SHARE = 1e-4, 0.25
"""With a coarser unit roundoff all three are this share: there is no Winograd in half precision, and to add 4096
products in it makes 18 times the error that the samples show."""

FLOOR_ROUNDINGS = 8.0
"""Roundings of an element's own size that are always allowed: the last operators of two frameworks differ by some."""

STEP_RATE = 0.01
"""Share of 8-bit elements that may be one quantization step off."""

UNSTABLE_SHARE = 0.25
"""Integers may differ where no sample did, but in no more elements than this share of those that did differ."""

_LEAST_IN_BIN = 16
_OCTAVES = 2


@dataclass(frozen=True)
class Yardstick:
    """What is right: outputs in float64 (integers as they are), `samples` of outputs with the errors to be expected,
    and the unit roundoff of the model's precision. `peers` are the samples that real implementations computed."""

    exact: Outputs
    samples: Sequence[Outputs]
    unit: float
    peers: Sequence[Outputs] = ()

    def with_peer(self, outputs: Outputs) -> Yardstick:
        """The same with the outputs of an implementation that passed the check."""
        return replace(self, samples=(*self.samples, outputs), peers=(*self.peers, outputs))

    def check(self, outputs: Outputs) -> OutputCheck:
        """Whether `outputs` are right; errors are against float64. The reason names the output and what is wrong."""
        if len(outputs) != len(self.exact):
            return OutputCheck(False, None, None, f"{len(outputs)} outputs instead of {len(self.exact)}")
        reasons, worst_abs, worst_rel = [], 0.0, 0.0
        for index, (got, want) in enumerate(zip(outputs, self.exact, strict=True)):
            reason, absolute, scale = self._checked(index, got, want)
            if reason:
                reasons.append(f"output {index}: {reason}")
            worst_abs, worst_rel = max(worst_abs, absolute), max(worst_rel, absolute / scale)
        return OutputCheck(not reasons, worst_abs, worst_rel, "; ".join(reasons))

    def _checked(self, index: int, got: NDArray[Any], want: NDArray[Any]) -> tuple[str, float, float]:
        """Why an output is wrong ("" if it is right), its largest absolute error, and the scale of the output."""
        if got.shape != want.shape:  # of an output whose shape depends on the data, rounding may change it
            want = next((s[index] for s in self.samples if s[index].shape == got.shape), want)
        if got.shape != want.shape:
            return f"shape {got.shape} instead of {want.shape}", 0.0, 1.0
        if (got.dtype.kind == "f") != (want.dtype.kind == "f"):
            return f"{got.dtype} instead of {'integers' if got.dtype.kind == 'f' else 'floating point'}", 0.0, 1.0
        samples = [sample[index] for sample in self.samples if sample[index].shape == want.shape]
        if "U" in (got.dtype.kind, want.dtype.kind):
            return ("" if got.dtype.kind == want.dtype.kind else "no texts") or _integers(got, want, samples), 0.0, 1.0
        if want.dtype.kind != "f":
            errors = np.abs(got.astype(np.float64) - want.astype(np.float64))
            return _integers(got, want, samples), _largest(errors), 1.0
        got, want, samples = np.atleast_1d(got), np.atleast_1d(want), [np.atleast_1d(sample) for sample in samples]
        right = _rounded(want, got.dtype)
        right = _as_peers_overflow(right, [np.atleast_1d(peer[index]) for peer in self.peers])
        wide = got.astype(np.float64)
        finite = np.isfinite(right) & np.isfinite(wide)
        errors = np.abs(np.where(finite, wide - np.where(finite, right, 0.0), 0.0))
        scale = _largest(np.abs(right[np.isfinite(right)])) or 1.0
        foreign = int((~finite & ~((wide == right) | (np.isnan(wide) & np.isnan(right)))).sum())
        if foreign:
            return f"{foreign} of {got.size} elements are not the finite (or NaN, infinite) value expected", 0.0, scale
        unit = max(self.unit, float(np.finfo(got.dtype).eps) / 2)
        least = float(max(np.finfo(got.dtype).smallest_subnormal, np.finfo(np.float32).tiny))
        return _floats(errors, np.where(finite, right, 0.0), samples, unit, least), _largest(errors), scale


def degenerate(outputs: Outputs) -> str:
    """Why outputs tell nothing of whether a model is right (see also `without_number`), or ""."""
    floats = [array for array in outputs if array.size > 1 and array.dtype.kind == "f"]
    if why := without_number(outputs):
        return why
    if floats and len(floats) == len(outputs) and all((array == array.flat[0]).all() for array in floats):
        return "every output is one constant"
    return ""


def constants(outputs: Outputs, inputs: str) -> list[str]:
    """Sentences on the outputs that are one constant on `inputs`, of several: little is verified of those."""
    same = [i for i, array in enumerate(outputs) if array.size > 1 and (array == array.flat[0]).all()]
    return [f"output {index} is one constant on {inputs}: little is verified of it" for index in same]


def without_number(outputs: Outputs) -> str:
    """Why outputs tell nothing, where one of them is NaN or infinite everywhere, or ""."""
    empty = any(array.size and not np.isfinite(array).any() for array in outputs if array.dtype.kind == "f")
    return "an output has no finite element" if empty else ""


def _floats(errors: Float64, right: Float64, samples: Outputs, unit: float, least: float) -> str:
    """Why errors are too large, by element or by channel; "" where they are not. `least`: the smallest number that the
    output's type can tell from zero."""
    if not errors.size:
        return ""
    expected, largest = _expected(right, samples, unit, least)
    floor = FLOOR_ROUNDINGS * unit * np.abs(right) + least
    share = HALF_SHARE if unit > HALF_UNIT else 1.0
    of_element, of_largest, of_channel = (share * f for f in (ELEMENT_FACTOR, LARGEST_FACTOR, CHANNEL_FACTOR))
    if largest > STEPS * unit * _largest(np.abs(right)):
        of_element, of_largest, of_channel = STEP_FACTORS
    wrong = errors > np.maximum(np.minimum(of_element * expected, of_largest * largest), floor)
    if wrong.any():
        worst = int(np.argmax(errors / expected))
        return (
            f"{int(wrong.sum())} of {errors.size} elements differ, by up to {errors.max():.3g}; the worst by "
            f"{errors.flat[worst]:.3g}, where {expected.flat[worst]:.3g} is the error to be expected"
        )
    for axis in sorted({1, right.ndim - 1} & set(range(right.ndim))):
        others = tuple(a for a in range(right.ndim) if a != axis)
        ratio = np.sqrt((errors**2).mean(others) / (expected**2).mean(others))
        if (ratio > of_channel).any():
            return f"channel {int(ratio.argmax())} of axis {axis} has {ratio.max():.3g} times the error to be expected"
    return ""


def _expected(right: Float64, samples: Outputs, unit: float, least: float) -> tuple[Float64, float]:
    """The error to be expected of each element (the root mean square error of the samples over elements of its size or
    smaller ones, or its own largest error in a sample where that is larger), and the largest error of the samples."""
    floor = FLOOR_ROUNDINGS / (HALF_SHARE * CHANNEL_FACTOR) * unit * np.abs(right) + least
    own = np.zeros(right.shape)
    square = np.zeros(right.shape)
    for sample in samples:
        difference = np.abs(sample.astype(np.float64) - right)
        difference[~np.isfinite(difference)] = 0.0
        own = np.maximum(own, difference)
        square = np.maximum(square, difference**2)
    largest = max(_largest(own), least)
    return np.maximum(np.maximum(_by_size(np.abs(right), square), own), floor), largest


def _by_size(sizes: Float64, squares: Float64) -> Float64:
    """Root of the mean of `squares` over bins of `sizes` (two octaves each, at least _LEAST_IN_BIN elements: a smaller
    bin is joined by the next larger one), which never falls as sizes grow."""
    flat = sizes.ravel()
    _, exponents = np.frexp(flat)
    bins = np.where(flat > 0, exponents // _OCTAVES, np.iinfo(np.int32).min)
    found, inverse, counts = np.unique(bins, return_inverse=True, return_counts=True)
    totals = np.bincount(inverse, squares.ravel(), len(found))
    means = np.empty(len(found))
    total, count, highest = 0.0, 0, 0.0
    for index in range(len(found)):
        fresh = count >= _LEAST_IN_BIN
        total, count = (0.0, 0) if fresh else (total, count)
        total, count = total + totals[index], count + int(counts[index])
        highest = means[index] = max(highest, total / count)
    return np.sqrt(means)[inverse].reshape(sizes.shape)


def _integers(got: NDArray[Any], want: NDArray[Any], samples: Outputs) -> str:
    """Why integers (or booleans) are wrong: each must be exact, or what a sample has in its place, but for a few."""
    wrong = got != want
    unstable = np.zeros(want.shape, bool)
    for sample in samples:
        unstable |= sample != want
        wrong &= got != sample
    allowed = UNSTABLE_SHARE * int(unstable.sum())
    if got.dtype.itemsize == 1 and got.dtype.kind in "iu":
        step = np.abs(got.astype(np.int64) - want.astype(np.int64)) <= 1
        allowed = max(allowed, STEP_RATE * got.size) if step[wrong].all() else allowed
    count = int(wrong.sum())
    what = "texts" if got.dtype.kind == "U" else "integers"
    return f"{count} of {got.size} {what} differ" if count > allowed else ""


def _rounded(want: NDArray[Any], dtype: np.dtype[Any]) -> Float64:
    """`want` with what `dtype` cannot hold as infinity."""
    values = want.astype(np.float64)
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype).astype(np.float64)
    return np.where(np.isinf(narrow), narrow, values)


def _as_peers_overflow(right: Float64, peers: Outputs) -> Float64:
    """Where all peers have the same NaN or infinity, the model's precision overflows inside: that is right there."""
    if not peers:
        return right
    first = peers[0].astype(np.float64)
    same = ~np.isfinite(first) & (len(peers) > 1)
    for peer in peers[1:]:
        same &= (peer == first) | (np.isnan(peer) & np.isnan(first))
    return np.where(same, first, right)


def _largest(values: Float64) -> float:
    return float(values.max(initial=0.0))
