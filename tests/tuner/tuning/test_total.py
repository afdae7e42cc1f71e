"""How a total budget is divided among the phases of a run."""

from __future__ import annotations

import math

import pytest

from tuner.tuning.total import LEAST_SEARCH, SHARES, Phase, TotalBudget


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def budget(total_s: float | None, clock: Clock, **more: float) -> TotalBudget:
    return TotalBudget(total_s, clock=clock, **more)


def test_the_shares_add_up() -> None:
    assert sum(share.part for share in SHARES.values()) == pytest.approx(1.0)
    assert list(SHARES) == list(Phase), "in the order of the phases"


def test_without_a_budget_every_phase_takes_its_usual_time() -> None:
    unlimited = budget(None, Clock())
    assert all(unlimited.allowed_s(phase, 7.5) == 7.5 for phase in Phase)
    assert not unlimited.limited
    assert unlimited.left_s == unlimited.free_s == math.inf


@pytest.mark.parametrize("total_s", [30.0, 60.0, 180.0, 3600.0])
def test_phases_that_take_what_they_may_end_in_time_and_leave_the_reserve(total_s: float) -> None:
    clock = Clock()
    made = budget(total_s, clock)
    clock.now += 0.2 * total_s  # the model was imported and tried
    made.reserved_s = 0.1 * total_s
    taken = {}
    for phase in Phase:
        taken[phase] = made.allowed_s(phase, 1.0)
        clock.now += taken[phase]
    assert made.left_s >= made.reserved_s - 1e-6
    assert taken[Phase.SEARCH] >= 0.54 * 0.7 * total_s
    assert all(taken[phase] <= SHARES[phase].most_s for phase in Phase)


def test_of_a_long_budget_the_search_gets_what_buys_nothing_elsewhere() -> None:
    assert budget(3600.0, Clock()).allowed_s(Phase.SEARCH, 0.0) == pytest.approx(3600 - 150 - 150 - 540 - 240 - 2)


def test_what_a_phase_leaves_goes_to_the_later_ones() -> None:
    clock = Clock()
    made = budget(100.0, clock)
    planned_s = made.allowed_s(Phase.COMPARISON, 0.0)
    clock.now += 5.0  # every task was finished soon
    assert made.allowed_s(Phase.COMPARISON, 0.0) > 0.9 * planned_s
    assert made.allowed_s(Phase.CERTIFICATION, 0.0) > 0.1 * 100.0


def test_where_the_reserve_takes_all_the_search_still_gets_its_least() -> None:
    clock = Clock()
    made = budget(60.0, clock, reserved_s=80.0)
    clock.now += 20.0
    assert made.free_s == 0.0
    assert made.allowed_s(Phase.SEARCH, 0.0) == pytest.approx(LEAST_SEARCH * 40.0)
    assert made.allowed_s(Phase.COMPARISON, 0.0) == 0.0


def test_earlier_attempts_are_spent() -> None:
    clock = Clock()
    made = budget(60.0, clock, spent_earlier_s=45.0)
    clock.now += 5.0
    assert (made.spent_s, made.left_s) == (50.0, 10.0)
    clock.now += 100.0
    assert made.left_s == 0.0


def test_a_stop_is_true_from_its_moment_on() -> None:
    clock = Clock()
    stop = budget(60.0, clock).stop_after(2.0)
    assert not stop()
    clock.now += 2.0
    assert stop()
