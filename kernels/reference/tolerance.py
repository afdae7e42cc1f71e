"""Tolerances for checking outputs, and the checks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import tvm
from tvm import tirx

from kernels.reference.blocks import LeafBlock, leaf_block, root_block, sequence
from kernels.reference.domain import Array, Unsupported
from kernels.reference.dtypes import EPSILON, is_float
from kernels.reference.expressions import BINARY, dtype_of, subexpressions


def reduction_length(func: tirx.PrimFunc) -> int:
    """How many roundings of sums and products accumulate in one output: the total length of its sums, at least 1.

    Maxima and minima do not round. Blocks that the evaluator has no rule for are not counted.
    """
    length = 0
    for block in _blocks(func):
        if block.init and not all(isinstance(s.value, (tirx.Max, tirx.Min)) for s in block.stores):
            length += math.prod(a.extent for a in block.domain.atoms if a.reduce)
    return max(length, 1)


def working_dtype(func: tirx.PrimFunc) -> str:
    """The dtype whose rounding limits the outputs: the coarsest floating dtype that the program computes in.

    A float32 output of float16 arithmetic is no more exact than float16; float16 inputs that are widened before any
    arithmetic cost nothing. The last output's dtype when nothing floating is computed.
    """
    last = str(func.params[-1].dtype)
    computed = (e for block in _blocks(func) for s in block.body for e in subexpressions(s.value))
    dtypes = {last, *(dtype_of(e) for e in computed if isinstance(e, (*BINARY, tirx.Cast, tvm.ir.Call)))}
    return max((d for d in dtypes if is_float(d)), key=lambda d: EPSILON[d], default=last)


def _blocks(func: tirx.PrimFunc) -> Iterator[LeafBlock]:
    """The plain blocks of a function; those the evaluator has no rule for are left out."""
    try:
        statements = sequence(root_block(func).body)
    except Unsupported:
        return
    for statement in statements:
        with contextlib.suppress(Unsupported):
            yield leaf_block(statement)


def tolerance(dtype: str, reduction_length: int) -> tuple[float, float]:
    """(rtol, atol factor): |actual - expected| <= rtol * |expected| + factor * scale is accepted.

    Each of the K steps of a sum of random terms rounds its partial sum, of size sqrt(k), by about 0.3 eps. Independent
    roundings add up to 0.2 eps K, which is 0.2 eps sqrt(K) of the result's own size sqrt(K) (Higham, Accuracy and
    Stability of Numerical Algorithms, section 4.2 on statistical error). The largest of a million such errors is 5
    deviations, about 1 eps sqrt(K). 8 eps sqrt(K) leaves room for the larger constants of a Winograd transform or of a
    polynomial exp, and 16 eps for a chain of elementwise operations. A kernel that drops or repeats a single one of K
    terms is off by 1/sqrt(K) and, in float32, far outside for every K below 1e5. The scale is the rms of the expected
    values: a sum that happens to cancel is no more exact than its neighbours. Integers must be equal.
    """
    if not is_float(dtype):
        return 0.0, 0.0
    bound = EPSILON[dtype] * (16 + 8 * math.sqrt(max(reduction_length, 1)))
    return bound, bound


def compare(actual: Array, expected: Array, dtype: str, k: int) -> tuple[bool, float, float, str]:
    """(right, greatest absolute error, greatest relative error, why not).

    The relative error is against max(|expected|, scale), the scale being the rms of `expected` without outliers.
    `dtype` is that of the arithmetic, see `working_dtype`, and `k` the `reduction_length`. Where `expected` holds
    integers they must be equal, whatever the dtype. NaN is right only where NaN is expected, and infinity only where
    the same infinity is, or a number that `dtype` cannot hold.
    """
    if actual.shape != expected.shape:
        return False, math.inf, math.inf, f"shape {actual.shape}, expected {expected.shape}"
    if actual.size == 0:
        return True, 0.0, 0.0, ""
    with np.errstate(all="ignore"):
        got, want = np.asarray(actual, np.float64), _representable(np.asarray(expected, np.float64), dtype)
        same = (np.isnan(got) & np.isnan(want)) | (np.isinf(want) & (got == want))
        odd = ~same & ~(np.isfinite(got) & np.isfinite(want))
        if odd.any():
            first = _first(odd)
            reason = f"{int(odd.sum())} values not finite, first at {first}: {got[first]}, expected {want[first]}"
            return False, math.inf, math.inf, reason
        want = np.where(same, 0.0, want)
        error = np.abs(np.where(same, 0.0, got) - want)
    size = np.abs(want)
    scale = _scale(size)
    rtol, factor = tolerance(dtype, k) if expected.dtype.kind == "f" else (0.0, 0.0)
    worst = float(error.max())
    relative = float((error / np.maximum(np.maximum(size, scale), np.finfo(np.float64).tiny)).max())
    wrong = error > rtol * size + factor * scale
    if wrong.any():
        first = _first(wrong)
        share = f"{int(wrong.sum())} of {wrong.size} values"
        reason = f"{share} wrong, first at {first}: {got[first]:.9g}, expected {want[first]:.9g}"
        return False, worst, relative, reason
    return True, worst, relative, ""


def _representable(values: Array, dtype: str) -> Array:
    """The values with infinity for those that `dtype` cannot hold."""
    if dtype not in ("float16", "float32"):
        return values
    return np.where(np.abs(values) > float(np.finfo(dtype).max), np.copysign(np.inf, values), values)


def _first(marked: Array) -> tuple[int, ...]:
    """The index of the first element that is true."""
    return tuple(int(i) for i in np.argwhere(marked)[0])


class Expectation:
    """A reference output that many candidates' outputs are checked against, with the results of `compare`.

    An output whose greatest error is within the absolute part of the tolerance is right without a closer look, at a
    tenth of the cost. Its relative error is then against the scale alone.
    """

    def __init__(self, expected: Array, dtype: str, k: int) -> None:
        self._expected = expected
        self._dtype = dtype
        self._k = k
        self._scale = _scale(np.abs(np.asarray(expected, np.float64))) if expected.dtype.kind == "f" else 0.0
        self._bound = tolerance(dtype, k)[1] * self._scale

    def check(self, actual: Array) -> tuple[bool, float, float, str]:
        """(right, greatest absolute error, greatest relative error, why not)."""
        if self._bound > 0 and actual.shape == self._expected.shape and actual.dtype == self._expected.dtype:
            worst = float(np.abs(actual - self._expected).max(initial=0.0))
            if worst <= self._bound:  # never true of a NaN
                return True, worst, worst / self._scale, ""
        return compare(actual, self._expected, self._dtype, self._k)


def _scale(size: Array) -> float:
    """Rms of magnitudes, without those over a thousand times their median, e.g. the -3e38 of a mask."""
    present = size[size > 0]
    if present.size == 0:
        return 0.0
    inliers = size[size <= 1000 * float(np.median(present))]
    return math.sqrt(float(np.mean(np.square(inliers))))
