"""Whether two implementations of a whole model agree, by fixed tolerances: where no float64 run can be had."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.outputs import OutputCheck, check_outputs
from tuner.protocols import Array

MODEL_RTOL = 1e-3
MODEL_ATOL = 1e-4
"""Tolerances of whole-model outputs where no float64 run can be had: rtol on each element plus atol in units of the
largest output.

fp32 rounding grows over a hundred layers and differs with the order of summation; frameworks differ from one another by
some 1e-5 of the largest output. A wrong layout or a missed bias is off by 1e-1.
"""

HALF_RTOL = 2e-2
HALF_ATOL = 2e-2
"""The same for models with outputs in float16: an element carries 5e-4, and a hundred layers add theirs."""


def by_tolerances(checked: Sequence[Array], right: Sequence[Array], coarse: bool = False) -> OutputCheck:
    """Compare outputs with those that are right; `coarse`: of a model with narrower operands than its outputs."""
    half = coarse or any(array.dtype == np.float16 for array in checked)
    rtol, atol = (HALF_RTOL, HALF_ATOL) if half else (MODEL_RTOL, MODEL_ATOL)
    return check_outputs(checked, right, rtol, atol)
