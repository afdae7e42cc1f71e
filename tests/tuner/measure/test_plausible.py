"""The one rule for times that no machine can reach."""

from __future__ import annotations

import pytest

from tuner.measure.plausible import PLAUSIBLE, plausible
from tuner.records import Conditions, Fidelity, Measurement, Status

BOUND_S = 1e-3


def measured(seconds: float) -> Measurement:
    conditions = Conditions(cost_s=0.5, batch=3, details={"load_before": 0.1})
    return Measurement(Status.OK, (seconds,) * 3, Fidelity.RANK, build_s=1.5, run_s=0.25, conditions=conditions)


@pytest.mark.parametrize("seconds", [BOUND_S, PLAUSIBLE * BOUND_S, 2 * BOUND_S])
def test_what_a_machine_can_reach_is_left_as_it_is(seconds: float) -> None:
    assert plausible(measured(seconds), BOUND_S) == measured(seconds)


def test_what_it_cannot_reach_is_suspect_and_keeps_what_it_cost() -> None:
    fast = measured(0.9 * PLAUSIBLE * BOUND_S)
    found = plausible(fast, BOUND_S)
    assert (found.status, found.samples_s, found.fidelity) == (Status.SUSPECT, (), Fidelity.RANK)
    assert "lower bound of 0.001 s" in found.reason
    assert (found.conditions, found.build_s, found.run_s) == (fast.conditions, 1.5, 0.25)


def test_a_failure_is_not_called_suspect() -> None:
    failed = Measurement(Status.RUN_FAILED, reason="on purpose")
    assert plausible(failed, BOUND_S) is failed
