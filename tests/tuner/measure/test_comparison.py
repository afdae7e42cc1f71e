"""Interleaved comparison, with real children."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.measure import services
from tuner.measure.comparison import (
    CONTROL,
    LEAST_SAMPLES,
    BenchmarkEntry,
    ComparisonResult,
    compare_interleaved,
    plan,
)
from tuner.process.pinning import thread_env
from tuner.process.worker import Child
from tuner.records import CpuState, Label

Enter = Callable[..., BenchmarkEntry]


@pytest.fixture
def enter() -> Iterator[Enter]:
    """Makes benchmark entries and ends their children."""
    children = []

    def make(name: str, **settings: Any) -> BenchmarkEntry:
        child = Child(f"{services.__name__}:Sleeper", settings, env=thread_env(2))
        children.append(child)
        child.call("threads", 60)  # an entry's child is ready
        return BenchmarkEntry(name, child)

    yield make
    for child in children:
        child.close()


def test_the_faster_one_is_found_faster(enter: Enter) -> None:
    result = compare_interleaved(
        [enter("fast", call_s=0.004), enter("slow", call_s=0.012)], min_rounds=6, time_budget_s=1.0, block_s=0.01
    )
    assert result.dropped == {}
    assert result.verdict("fast", "slow").label is Label.FASTER
    assert result.verdict("slow", "fast").label is Label.SLOWER
    assert all(len(seconds) >= 6 for seconds in result.seconds.values())
    assert all(0.004 <= s < 0.011 for s in sorted(result.seconds["fast"])[:3])
    assert 0 <= result.noise_floor < 0.5
    assert result.states == {} and result.by_state() == {}, "nothing told the state"
    first = result.first_call()
    assert all(0.012 <= s < 0.03 for s in sorted(first.seconds["fast"])[:3]), "three times a call of steady state"
    assert first.verdict("fast", "slow").label is Label.FASTER
    assert len(first.aa_pairs[0]) == len(result.aa_pairs[0]) >= 6
    assert 1 <= result.calls_per_block["fast"] <= 3 and result.calls_per_block["slow"] == 1


@pytest.mark.parametrize(
    ("then", "reason"), [("die", "code 7"), ("raise", "out of luck"), ("hang", "no reply"), ("lie", "took 0.0 s")]
)
def test_one_that_fails_at_once_is_dropped_and_the_others_go_on(enter: Enter, then: str, reason: str) -> None:
    result = compare_interleaved(
        [enter("good", call_s=0.002), enter("bad", call_s=0.002, then=then)],
        min_rounds=4,
        time_budget_s=0.5,
        block_s=0.004,
        timeout_s=1.0,
    )
    assert reason in result.dropped["bad"]
    assert result.seconds["bad"] == []
    assert len(result.seconds["good"]) >= 4
    assert result.verdict("good", "bad").label is Label.UNDECIDED


def test_one_that_dies_later_keeps_what_it_had(enter: Enter) -> None:
    result = compare_interleaved(
        [enter("good", call_s=0.002), enter("bad", call_s=0.002, then="die", blocks=5)],
        min_rounds=8,
        time_budget_s=0.3,
        block_s=0.004,
    )
    assert len(result.seconds["bad"]) == 3  # two blocks went into its calibration
    assert "code 7" in result.dropped["bad"]
    assert len(result.seconds["good"]) >= 8


def test_an_incumbent_that_fails_leaves_no_noise_floor_and_no_verdict(enter: Enter) -> None:
    result = compare_interleaved(
        [enter("a", call_s=0.002), enter("b", call_s=0.02), enter("bad", call_s=0.002, then="raise")],
        min_rounds=4,
        time_budget_s=0.4,
        block_s=0.004,
        incumbent="bad",
    )
    assert result.noise_floor == math.inf
    assert result.verdict("a", "b").label is Label.UNDECIDED


def test_a_slow_one_does_not_eat_the_budget(enter: Enter) -> None:
    began = time.perf_counter()
    result = compare_interleaved(
        [enter("fast", call_s=0.005), enter("slow", call_s=0.2)], min_rounds=5, time_budget_s=6.0, block_s=0.01
    )
    assert time.perf_counter() - began < 10.0
    assert LEAST_SAMPLES <= len(result.seconds["slow"]) < len(result.seconds["fast"])
    assert result.verdict("fast", "slow").label is Label.FASTER


def test_a_limit_is_kept_and_the_incumbent_is_timed_in_any_case(enter: Enter) -> None:
    began = time.perf_counter()
    result = compare_interleaved(
        [enter("other", call_s=0.3), enter("own", call_s=0.3)], min_rounds=10, time_budget_s=0.1, block_s=0.01,
        incumbent="own", limited=True,
    )  # fmt: skip
    assert time.perf_counter() - began < 8.0, "ten rounds of both would take thirty"
    assert len(result.seconds["own"]) == 1
    assert result.dropped == {"other": "no time was left for it"}


def test_within_a_limit_there_are_as_many_rounds_as_there_is_time_for(enter: Enter) -> None:
    began = time.perf_counter()
    result = compare_interleaved(
        [enter("own", call_s=0.05), enter("other", call_s=0.05)], min_rounds=1000, time_budget_s=2.5, block_s=0.01,
        limited=True,
    )  # fmt: skip
    assert time.perf_counter() - began < 5.0
    assert result.dropped == {}
    assert len(result.seconds["own"]) >= 1


def test_once_it_is_to_stop_it_ends_with_what_a_verdict_takes(enter: Enter) -> None:
    began = time.perf_counter()
    result = compare_interleaved(
        [enter("own", call_s=0.01), enter("other", call_s=0.01)], time_budget_s=60.0, block_s=0.01,
        stop=lambda: time.perf_counter() > began + 1.0,
    )  # fmt: skip
    assert time.perf_counter() - began < 20.0
    assert len(result.seconds["own"]) >= LEAST_SAMPLES


def test_a_stop_before_the_first_block_leaves_the_incumbent_alone(enter: Enter) -> None:
    result = compare_interleaved(
        [enter("own", call_s=0.002), enter("other", call_s=0.002)], time_budget_s=60.0, block_s=0.01, stop=lambda: True
    )
    assert result.dropped == {"other": "the run was interrupted"}
    assert len(result.seconds["own"]) == LEAST_SAMPLES


def test_when_the_incumbent_is_dead_a_stop_ends_it(enter: Enter) -> None:
    began = time.perf_counter()
    result = compare_interleaved(
        [enter("own", call_s=0.002, then="die", blocks=4), enter("other", call_s=0.002)], time_budget_s=60.0,
        block_s=0.01, stop=lambda: time.perf_counter() > began + 1.0,
    )  # fmt: skip
    assert time.perf_counter() - began < 20.0
    assert "code 7" in result.dropped["own"]


def test_two_blocks_of_a_far_slower_one_are_enough() -> None:
    fast = {number: 0.04 + 0.001 * (number % 3) for number in range(20)}
    result = ComparisonResult(
        {"fast": fast, "slow": {3: 1.6, 12: 1.7}, "near": {3: 0.043, 12: 0.044}}, noise_floor=0.05
    )
    assert result.verdict("fast", "slow").label is Label.FASTER
    assert result.verdict("slow", "fast").label is Label.SLOWER
    assert result.verdict("fast", "near").label is Label.UNDECIDED
    assert dataclasses.replace(result, noise_floor=math.inf).verdict("fast", "slow").label is Label.UNDECIDED


class Probe:
    """A machine that is in one of two states, a few blocks each."""

    def __init__(self, fixed: CpuState | None = None) -> None:
        self.fixed = fixed
        self.known_s: list[float] = []
        self.asked = 0

    def round_trip_s(self) -> float | None:
        self.asked += 1
        if self.fixed:
            return None
        if self.asked == 4:
            return None
        self.known_s.append(54e-9 if self.asked < 30 else 340e-9)
        return self.known_s[-1]

    def close(self) -> None:
        pass


def test_each_block_has_the_state_that_it_ran_in(enter: Enter) -> None:
    probe = Probe()
    result = compare_interleaved(
        [enter("a", call_s=0.002), enter("b", call_s=0.004)],
        min_rounds=16,
        time_budget_s=0.1,
        block_s=0.002,
        probe=probe,
    )
    blocks = sum(len(rounds) for rounds in (*result.blocks.values(), result.control))
    assert probe.asked == blocks + 2 > 48
    states = Counter(state for rounds in result.states.values() for state in rounds.values())
    assert states == {CpuState.TOGETHER: 27, CpuState.MIXED: 1, CpuState.APART: blocks - 28}
    assert result.round_trips_s == {CpuState.TOGETHER: 54e-9, CpuState.APART: 340e-9}
    within = result.by_state()
    assert within.keys() == {CpuState.TOGETHER, CpuState.APART}
    assert sum(len(w.blocks["a"]) for w in within.values()) >= 16 - 1
    for view in within.values():
        assert view.verdict("a", "b").label is Label.FASTER
        assert math.isfinite(view.noise_floor)
        assert view.first_calls["a"].keys() == view.blocks["a"].keys()


def test_a_state_that_cannot_change_is_not_probed_for(enter: Enter) -> None:
    probe = Probe(fixed=CpuState.APART)
    entries = [enter("a", call_s=0.002), enter("b", call_s=0.004)]
    result = compare_interleaved(entries, min_rounds=4, time_budget_s=0.1, block_s=0.002, probe=probe)
    assert probe.known_s == []
    assert list(result.by_state()) == [CpuState.APART]
    assert result.by_state()[CpuState.APART].seconds == result.seconds


def test_what_differs_between_states_does_not_mix() -> None:
    """`a` is faster in one state and slower in the other; taken together nothing could be said."""
    state_of = {number: CpuState.TOGETHER if number < 20 else CpuState.APART for number in range(32)}
    a = {n: (1.0 if state == CpuState.TOGETHER else 1.5) * (1 + 0.001 * (n % 3)) for n, state in state_of.items()}
    b = {n: (1.1 if state == CpuState.TOGETHER else 1.3) * (1 + 0.001 * (n % 2)) for n, state in state_of.items()}
    control = {n: seconds * (1 + 0.001 * (n % 2)) for n, seconds in a.items()}
    states = {name: state_of for name in ("a", "b", CONTROL)}
    result = ComparisonResult({"a": a, "b": b}, incumbent="a", control=control, states=states).with_noise_floor()
    within = result.by_state()
    assert list(within) == [CpuState.TOGETHER, CpuState.APART], "the state with the most blocks first"
    assert within[CpuState.TOGETHER].verdict("a", "b").label is Label.FASTER
    assert within[CpuState.APART].verdict("a", "b").label is Label.SLOWER
    assert len(within[CpuState.APART].seconds["a"]) == 12


def test_without_a_state_all_is_taken_together() -> None:
    blocks = {"a": {0: 1.0, 1: 1.1}, "b": {0: 2.0}}
    result = ComparisonResult(blocks, incumbent="a")
    assert result.main("a") == (None, result)
    result.states = {"a": dict.fromkeys((0, 1), CpuState.UNKNOWN)}
    assert result.main("a") == (CpuState.UNKNOWN, result)
    result.states = {"a": {0: CpuState.APART, 1: CpuState.MIXED}}
    assert result.main("a") == (CpuState.MIXED, result), "one block in a state is not enough"


def test_names_must_differ_and_the_incumbent_must_take_part(enter: Enter) -> None:
    one = enter("one", call_s=0.001)
    with pytest.raises(ValueError, match="entries"):
        compare_interleaved([one, one])
    with pytest.raises(ValueError, match="incumbent"):
        compare_interleaved([one], incumbent="two")


def test_without_entries_nothing_is_compared() -> None:
    assert compare_interleaved([]).seconds == {}


def test_children_get_their_threads(enter: Enter) -> None:
    seen = enter("any", call_s=0.0).child.call("threads", 30)
    assert seen.items() >= {"OMP_NUM_THREADS": "2", "TVM_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}.items()


costs = st.dictionaries(st.text(max_size=3), st.floats(1e-3, 100), min_size=1, max_size=8)


@given(costs, st.integers(1, 20), st.floats(0.1, 200))
def test_a_plan_is_fair(costs: dict[str, float], min_rounds: int, budget: float) -> None:
    chosen = plan(costs, min_rounds, budget)
    rounds = max(max(numbers) for numbers in chosen.values()) + 1
    cheapest = min(costs, key=lambda name: costs[name])
    for name, numbers in chosen.items():
        assert 1 <= len(numbers) <= len(chosen[cheapest])
        assert min(numbers) >= 0
        within_share = len(numbers) * costs[name] <= budget / len(costs) * (1 + 1e-9)
        slow = costs[name] > 4 * costs[cheapest]
        assert within_share or len(numbers) <= (LEAST_SAMPLES if slow else max(min_rounds, 1))
        assert slow or len(numbers) >= min_rounds
    fair = all(len(n) * costs[name] <= budget / len(costs) for name, n in chosen.items())
    if fair and rounds > min_rounds:
        assert sum(len(n) * costs[name] for name, n in chosen.items()) <= budget * (1 + 1e-9)


@given(st.integers(1, 6), st.integers(1, 20), st.floats(1.0, 100))
def test_equals_are_treated_equally(count: int, min_rounds: int, budget: float) -> None:
    chosen = plan({str(i): 0.01 for i in range(count)}, min_rounds, budget)
    assert len(set(chosen.values())) == 1
    affordable = int(0.999 * budget / count / 0.01)  # less a rounding error
    assert len(chosen["0"]) >= max(min_rounds, min(1000, affordable))


def test_a_slow_one_is_spread_over_the_rounds() -> None:
    chosen = plan({"fast": 0.1, "slow": 10.0}, 10, 60.0)
    slow = sorted(chosen["slow"])
    rounds = len(chosen["fast"])
    assert len(slow) == 3
    assert slow[0] < rounds / 3 and slow[-1] > rounds / 2
