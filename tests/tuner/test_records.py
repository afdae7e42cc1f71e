"""What a measurement cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tuner.records import Measurement, Status


@pytest.mark.parametrize(
    "changes",
    [
        {"samples_s": ()},
        {"samples_s": (1.0, -1.0)},
        {"samples_s": (math.nan,)},
        {"samples_s": (math.inf,)},
        {"status": Status.RUN_FAILED},
        {"status": Status.CENSORED, "samples_s": ()},
        {"censored_at_s": 1.0},
        {"run_s": math.nan},
        {"run_s": -1.0},
        {"build_s": math.inf},
    ],
)
def test_a_measurement_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    Measurement(Status.OK, (1.0,))
    with pytest.raises(ValueError, match=r"seconds|status|samples|censored"):
        Measurement(**{"status": Status.OK, "samples_s": (1.0,), **changes})
