"""Whether the outputs of a whole model are right. For single kernels, with fp64 references, see `kernels.reference`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OutputCheck:
    """Whether outputs are right. Errors are over all outputs and finite elements; None when nothing could be
    compared. `max_rel_error` is the largest absolute error over the largest expected magnitude."""

    ok: bool
    max_abs_error: float | None
    max_rel_error: float | None
    reason: str = ""


def check_outputs(
    actual: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], rtol: float, atol: float
) -> OutputCheck:
    """Compare outputs with a reference, in float64.

    An element passes when `|actual - expected| <= atol * scale + rtol * |expected|`, where `scale` is the
    largest finite magnitude of the expected tensor (1 when that is 0). It is numpy's `allclose` with `atol`
    in units of the tensor: a sum that cancels to almost nothing carries the rounding error of its terms, so
    its own size is no measure of it. Scaling both tensors by the same factor does not change the outcome.
    Where the reference is not finite the output must be the same inf or nan; anywhere else inf or nan fails.
    Integers, booleans and texts must be equal.
    """
    if len(actual) != len(expected):
        return OutputCheck(False, None, None, f"{len(actual)} outputs instead of {len(expected)}")
    worst_abs = worst_rel = None
    reasons = []
    for index, (got, want) in enumerate(zip(actual, expected, strict=True)):
        if got.shape != want.shape:
            reasons.append(f"output {index}: shape {got.shape} instead of {want.shape}")
            continue
        if "U" in (got.dtype.kind, want.dtype.kind):
            wrong = int((got != want).sum()) if got.dtype.kind == want.dtype.kind else want.size
            reasons += [f"output {index}: {wrong} of {want.size} texts differ"] if wrong else []
            continue
        exact = want.dtype.kind in "iub"
        tolerance = (0.0, 0.0) if exact else (rtol, atol)
        reason, absolute, relative = _compare(got.astype(np.float64), want.astype(np.float64), *tolerance)
        if reason:
            reasons.append(f"output {index}: {reason}")
        if absolute is not None and relative is not None:
            worst_abs, worst_rel = max(absolute, worst_abs or 0.0), max(relative, worst_rel or 0.0)
    return OutputCheck(not reasons, worst_abs, worst_rel, "; ".join(reasons))


def _compare(
    got: NDArray[np.float64], want: NDArray[np.float64], rtol: float, atol: float
) -> tuple[str, float | None, float | None]:
    """Why the tensors differ ("" if they do not), the largest absolute error, and it over the scale."""
    finite = np.isfinite(got) & np.isfinite(want)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    foreign = int((~finite & ~same).sum())
    magnitudes = np.abs(want[np.isfinite(want)])
    scale = float(magnitudes.max(initial=0.0)) or 1.0
    errors = np.abs(got[finite] - want[finite])
    wrong = int((errors > atol * scale + rtol * np.abs(want[finite])).sum())
    worst = float(errors.max()) if errors.size else None
    relative = None if worst is None else worst / scale
    if foreign:
        return f"{foreign} of {got.size} elements are not the finite (or non-finite) value expected", worst, relative
    if wrong:
        return f"{wrong} of {got.size} elements differ, by up to {worst:.3g} (scale {scale:.3g})", worst, relative
    return "", worst, relative
