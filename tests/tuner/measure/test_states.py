"""States of a machine, told from round trips of a cache line."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.measure.states import states_of
from tuner.records import CpuState


@pytest.mark.parametrize(("near_s", "far_s"), [(54e-9, 340e-9), (100e-9, 180e-9), (25e-9, 60e-9)])
def test_the_border_lies_in_the_gap_wherever_that_is(near_s: float, far_s: float) -> None:
    rng = random.Random(0)
    seen = [near_s * rng.uniform(0.95, 1.1) for _ in range(40)] + [far_s * rng.uniform(0.95, 1.1) for _ in range(5)]
    states = states_of(seen)
    assert [states.of(s) for s in seen] == [CpuState.TOGETHER] * 40 + [CpuState.APART] * 5


def test_of_three_groups_the_widest_gap_parts_two_states() -> None:
    states = states_of([25e-9] * 5 + [54e-9] * 5 + [340e-9] * 5)
    assert [states.of(s) for s in (25e-9, 54e-9, 340e-9)] == [CpuState.TOGETHER, CpuState.TOGETHER, CpuState.APART]


@given(st.lists(st.floats(340e-9, 420e-9), max_size=50), st.lists(st.floats(900e-9, 1e-3), max_size=2))
def test_one_state_has_no_name_and_a_few_strays_make_none(seen: list[float], strays: list[float]) -> None:
    states = states_of(seen + strays)
    assert {states.of(s) for s in seen} <= {CpuState.ONE}


def test_a_block_has_the_state_of_both_probes() -> None:
    states = states_of([54e-9] * 3 + [340e-9] * 3)
    assert states.during(55e-9, 60e-9) == CpuState.TOGETHER
    assert states.during(330e-9, 350e-9) == CpuState.APART
    assert states.during(None, 54e-9) == states.during(54e-9, None) == CpuState.TOGETHER
    assert states.during(54e-9, 340e-9) == CpuState.MIXED
    assert states.during(None, None) == CpuState.UNKNOWN
