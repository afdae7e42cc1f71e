"""Tolerances for checking outputs, and the checks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from kernels.reference.blocks import LeafBlock, leaf_block, root_block, sequence
from kernels.reference.domain import Array, Unsupported
from kernels.reference.dtypes import EPSILON, is_float
from kernels.reference.evaluation import evaluate
from kernels.reference.expressions import BINARY, NEAR_ONE, called, dtype_of, subexpressions
from kernels.tensors import scale_of


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
    """The dtype whose rounding limits the outputs: the coarsest floating dtype that the program does arithmetic in.

    A float32 output of float16 arithmetic is no more exact than float16; float16 inputs that are widened before any
    arithmetic cost nothing, and what is rounded to a narrower dtype costs what `rounding` says. The last output's dtype
    when nothing floating is computed.
    """
    last = str(func.params[-1].dtype)
    dtypes = {dtype_of(e) for e in _computed(func) if isinstance(e, (*BINARY, tvm.ir.Call)) and not _chooses(e)}
    return max((d for d in dtypes if is_float(d)), key=lambda d: EPSILON[d], default=last)


ROUNDED = 8
"""Steps of a narrower dtype by which an output may be off for each value on the way that was rounded to it: two kernels
that are both right round a value near the middle of a step to different sides, and what follows may enlarge it."""


def rounding(func: tirx.PrimFunc, num_outputs: int = 1) -> tuple[float, ...]:
    """For each output, what explicit roundings add to its tolerance, where two right kernels may round apart.

    Relative for a floating output: one step of its own dtype where the program casts to it, and ROUNDED of a dtype that
    values in between are rounded to. For an integer that is made of floating values one step, as a number.
    """
    outputs = list(func.params)[len(func.params) - num_outputs :]
    casts = [e for e in _computed(func) if isinstance(e, tirx.Cast) and is_float(dtype_of(e.value))]
    stored = {b: s.value for block in _blocks(func) for s in block.stores for b in outputs if s.buffer.same_as(b)}
    slack = []
    for output in outputs:
        dtype = str(output.dtype)
        last = stored.get(output)
        if is_float(dtype):
            own = EPSILON[dtype] if isinstance(last, tirx.Cast) and _narrows(last) else 0.0
            between = [EPSILON[dtype_of(c)] for c in casts if _narrows(c) and not c.same_as(last)]
            slack.append(own + ROUNDED * max(between, default=0.0))
        else:
            slack.append(float(dtype != "bool" and any(not is_float(dtype_of(c)) for c in casts)))
    return tuple(slack)


_SHIFT = 2.0**-30
"""A relative error that is small beside every change of an output."""


def passing_sizes(func: tirx.PrimFunc, inputs: Sequence[Array], outputs: Sequence[Array]) -> tuple[float, ...]:
    """For each output the size of the numbers on the way whose relative errors reach it, where exponentials and their
    like are concerned, else 0: the last steps of a GELU subtract numbers near one, and -1e-9 times that is left.

    `outputs` are what `evaluate` gives for the `inputs`. By what outputs change where those functions have a small
    relative error. Integers have no such size.
    """
    if not any(isinstance(e, tvm.ir.Call) and called(e) in NEAR_ONE for e in _computed(func)):
        return (0.0,) * len(outputs)
    moved = evaluate(func, inputs, len(outputs), _SHIFT)
    with np.errstate(all="ignore"):
        return tuple(
            scale_of((got - want) / _SHIFT) if want.dtype.kind == "f" else 0.0
            for got, want in zip(moved, outputs, strict=True)
        )


def _chooses(expr: Any) -> bool:
    """Whether an expression is one of its operands, and so rounds nothing."""
    return isinstance(expr, (tirx.Min, tirx.Max)) or str(getattr(getattr(expr, "op", None), "name", "")) in _CHOICES


_CHOICES = {"tirx.if_then_else", "tirx.likely", "tirx.reinterpret"}


def _narrows(cast: Any) -> bool:
    source, result = dtype_of(cast.value), dtype_of(cast)
    return is_float(source) and is_float(result) and EPSILON[result] > EPSILON[source]


def _computed(func: tirx.PrimFunc) -> Iterator[Any]:
    """Everything that a program computes and stores, without the indices of its loads."""
    for block in _blocks(func):
        for statement in block.body:
            yield from subexpressions(statement.value, into_loads=False)


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


APART = 1 / 256
"""Of integers that are rounded floats, those that two right kernels may round apart: values as large as 255 that are
off by 8 units in the last place of float32 are so in 1 of 2000 cases. One that truncates is off in half of them."""


def compare(
    actual: Array, expected: Array, dtype: str, k: int, slack: float = 0.0, passing: float = 0.0
) -> tuple[bool, float, float, str]:
    """(right, greatest absolute error, greatest relative error, why not).

    The relative error is against max(|expected|, scale), the scale being the rms of `expected` without outliers.
    `dtype` is that of the arithmetic, see `working_dtype`, `k` the `reduction_length`, `slack` what `rounding` adds.
    The scale is at least `passing`, see `passing_sizes`.
    Where `expected` holds integers they must be equal, whatever the dtype, but for the slack, which at most a share of
    APART of them may need. NaN is right only where NaN is expected, and infinity only where
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
    scale = max(scale_of(want), passing)
    floating = expected.dtype.kind == "f"
    rtol, factor = (bound + slack for bound in tolerance(dtype, k)) if floating else (0.0, 0.0)
    worst = float(error.max())
    relative = float((error / np.maximum(np.maximum(size, scale), np.finfo(np.float64).tiny)).max())
    wrong = error > rtol * size + factor * scale
    if not floating and slack and np.count_nonzero(wrong) <= 1 + APART * wrong.size:
        wrong &= error > slack
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

    def __init__(self, expected: Array, dtype: str, k: int, slack: float = 0.0, passing: float = 0.0) -> None:
        self._expected = expected
        self._dtype = dtype
        self._k = k
        self._slack = slack
        self._passing = passing
        self._scale = max(scale_of(expected), passing) if expected.dtype.kind == "f" else 0.0
        self._bound = tolerance(dtype, k)[1] * self._scale

    def check(self, actual: Array) -> tuple[bool, float, float, str]:
        """(right, greatest absolute error, greatest relative error, why not)."""
        if self._bound > 0 and actual.shape == self._expected.shape and actual.dtype == self._expected.dtype:
            worst = float(np.abs(actual - self._expected).max(initial=0.0))
            if worst <= self._bound:  # never true of a NaN
                return True, worst, worst / self._scale, ""
        return compare(actual, self._expected, self._dtype, self._k, self._slack, self._passing)


def expectations(
    outputs: Sequence[Array], dtype: str, k: int, slack: Sequence[float], passing: Sequence[float] = ()
) -> list[Expectation]:
    """One expectation an output; `slack` and `passing` are shorter where nothing is known of it."""
    slacks, sizes = ([*known, *[0.0] * (len(outputs) - len(known))] for known in (slack, passing))
    return [Expectation(output, dtype, k, own, size) for output, own, size in zip(outputs, slacks, sizes, strict=True)]
