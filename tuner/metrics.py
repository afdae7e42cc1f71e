"""Metrics of a model's accuracy: on which side of a bound it is good."""

from __future__ import annotations

import math

LESS_IS_BETTER = ("mse", "max_error")
"""The metrics that are errors."""


def keeps(metric: str, score: float | None, bound: float) -> bool:
    """Whether a score is as good as a bound. One that is unknown or not finite is not."""
    if score is None or not math.isfinite(score):
        return False
    return score <= bound if metric in LESS_IS_BETTER else score >= bound
