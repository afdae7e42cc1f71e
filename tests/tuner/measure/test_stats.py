"""The statistics: exact small cases, properties, and coverage by simulation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tuner.measure.stats import (
    StopRule,
    Verdict,
    log_ratio_interval,
    median,
    median_interval,
    noise_floor,
    noise_is_stable,
    periods,
    relative_half_width,
    should_stop,
    undisturbed_rounds,
    unpaired_verdict,
    verdict,
    without_preempted,
)
from tuner.protocols import CERTIFY, RANK, SCREEN, Policy
from tuner.records import Fidelity, Label

seconds = st.floats(1e-9, 1e3, allow_nan=False)
samples = st.lists(seconds, min_size=1, max_size=60)


@given(samples)
def test_half_the_samples_lie_on_either_side_of_the_median(values: list[float]) -> None:
    middle = median(values)
    assert sum(v <= middle for v in values) * 2 >= len(values)
    assert sum(v >= middle for v in values) * 2 >= len(values)


def test_no_samples_have_no_median() -> None:
    with pytest.raises(ValueError, match="no samples"):
        median([])


@given(samples)
def test_the_interval_holds_the_median_and_consists_of_samples(values: list[float]) -> None:
    interval = median_interval(values)
    assert (interval is None) == (len(values) < 6)
    if interval is not None:
        assert interval[0] <= median(values) <= interval[1]
        assert {*interval} <= {*values}


@pytest.mark.parametrize(
    ("count", "rank"),
    [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (30, 10), (50, 18), (100, 40)],
)
def test_ranks_are_those_of_the_published_tables(count: int, rank: int) -> None:
    """Conover, Practical Nonparametric Statistics, table of the sign test's critical values at 5 %."""
    assert median_interval([float(i) for i in range(1, count + 1)]) == (rank, count + 1 - rank)


def test_the_rank_is_the_largest_whose_exact_coverage_suffices() -> None:
    for count in range(6, 80):
        low, high = median_interval([float(i) for i in range(1, count + 1)]) or (0, 0)
        rank = int(low)
        assert high == count + 1 - rank

        def miss(k: int, count: int = count) -> float:
            return float(2 * sum(math.comb(count, i) for i in range(k)) / 2**count)

        assert miss(rank) <= 0.05 < miss(rank + 1)


def test_many_samples_do_not_overflow() -> None:
    low, high = median_interval(list(np.arange(20_000.0))) or (0, 0)
    assert high - low == pytest.approx(1.96 * math.sqrt(20_000), rel=0.02)


def lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.lognormal(sigma=1.0, size=shape)


def bimodal(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Two clock speeds, the slower one 30 % of the time."""
    return rng.normal(1.0, 0.01, shape) + 0.5 * (rng.random(shape) < 0.3)


@pytest.mark.parametrize("count", [6, 10, 25])
@pytest.mark.parametrize(("draw", "truth"), [(lognormal, 1.0), (bimodal, None)])
def test_the_interval_covers_the_true_median(
    draw: Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]], truth: float | None, count: int
) -> None:
    rng = np.random.default_rng(7)
    if truth is None:
        truth = float(np.median(draw(rng, (1, 1_000_000))))
    runs = 1500
    covered = 0
    for values in draw(rng, (runs, count)):
        low, high = median_interval(values.tolist()) or (0.0, 0.0)
        covered += low <= truth <= high
    # At least 95 % is promised; three standard errors of the simulation are allowed for.
    assert covered / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
    assert covered / runs <= 0.9999  # an interval that never misses says nothing


@given(st.lists(seconds, min_size=6, max_size=40), st.integers(-10, 10))
def test_the_relative_half_width_does_not_depend_on_the_unit(values: list[float], power: int) -> None:
    scaled = [v * 2.0**power for v in values]
    assert relative_half_width(scaled) == relative_half_width(values) >= 0


def test_few_samples_have_no_half_width() -> None:
    assert relative_half_width([1.0] * 5) == math.inf


def test_what_costs_far_more_takes_part_less_often() -> None:
    assert periods([1.0, 2.0, 4.0]) == [1, 1, 1]
    assert periods([1.0, 3.0, 40.0]) == [1, 1, 20]


class TestShouldStop:
    def test_screen_stops_at_its_count_and_time(self) -> None:
        assert should_stop([], SCREEN, 5.0) is None
        assert should_stop([1.0] * 2, SCREEN, 0.5) is None
        assert should_stop([0.001] * 3, SCREEN, 0.003) is None
        assert should_stop([0.01] * 3, SCREEN, 0.03) is StopRule.ENOUGH_SAMPLES

    def test_what_cannot_win_is_not_sampled_for_long(self) -> None:
        racing = dataclasses.replace(SCREEN, enough_above_s=0.0015)
        assert should_stop([0.002] * 2, racing, 0.004) is None
        assert should_stop([0.002] * 3, racing, 0.006) is StopRule.CANNOT_WIN
        assert should_stop([0.001, 0.001, 0.009], racing, 0.011) is None

    def test_rank_waits_for_the_half_width(self) -> None:
        wide = [1.0, 2.0] * 10
        assert should_stop(wide, RANK, 0.5) is None
        assert should_stop(wide, RANK, 3.0) is StopRule.TIME_LIMIT
        assert should_stop([1.0, 1.001] * 10, RANK, 0.5) is StopRule.HALF_WIDTH

    def test_certify_stops_when_the_noise_is_stable(self) -> None:
        noisy = np.random.default_rng(0).normal(1.0, 0.2, 2000).tolist()
        assert relative_half_width(noisy) > CERTIFY.half_width
        assert noise_is_stable(noisy)
        assert should_stop(noisy, CERTIFY, 1.0) is StopRule.NOISE_STABLE
        certify_by_rank = dataclasses.replace(CERTIFY, fidelity=Fidelity.RANK)
        assert should_stop(noisy, certify_by_rank, 1.0) is None

    def test_noise_that_grows_is_not_stable(self) -> None:
        growing = (1.0 + np.linspace(0, 1, 200) ** 3).tolist()
        assert not noise_is_stable(growing)
        assert not noise_is_stable([1.0, 2.0] * 32)  # stable, but too few to say

    @given(samples, st.floats(0, 20))
    def test_nothing_outlasts_the_time_limit_or_stops_too_early(self, values: list[float], elapsed: float) -> None:
        for policy in (SCREEN, RANK, CERTIFY):
            reason = should_stop(values, policy, elapsed)
            if elapsed >= policy.max_time_s:
                assert reason is StopRule.TIME_LIMIT
            elif len(values) < policy.min_samples or elapsed < policy.min_time_s:
                assert reason is None

    def test_running_deviations_match_their_definition(self) -> None:
        """The one-pass form against the plain one, on data where cancellation would show."""
        values = (1e3 + np.random.default_rng(1).normal(0, 1e-3, 90)).tolist()
        deviations = np.array([np.std(values[:n]) / np.mean(values[:n]) for n in range(5, 91)])
        assert noise_is_stable(values) == bool(deviations.std() < 0.05 * deviations.mean())
        settled = values + [1e3 + 1e-3 * (-1) ** i for i in range(2000)]
        tail = np.array([np.std(settled[:n]) / np.mean(settled[:n]) for n in range(5, len(settled) + 1)])[-512:]
        assert noise_is_stable(settled) == bool(tail.std() < 0.05 * tail.mean()) is True


class TestWithoutDisturbed:
    def test_drops_what_was_disturbed(self) -> None:
        assert without_preempted([1, 9, 1, 1], [False, True, False, False], 3) == [1, 1, 1]

    def test_keeps_all_when_too_little_would_be_left(self) -> None:
        assert without_preempted([1, 9, 1], [False, True, False], 3) == [1, 9, 1]
        assert without_preempted([1, 9, 9], [False, True, True], 1) == [1, 9, 9]

    @given(st.lists(st.tuples(seconds, st.booleans()), min_size=1), st.integers(0, 10))
    def test_never_leaves_an_empty_table(self, pairs: list[tuple[float, bool]], minimum: int) -> None:
        kept = without_preempted([p[0] for p in pairs], [p[1] for p in pairs], minimum)
        assert len(kept) * 2 >= len(pairs) > 0


def blocks(ratio: float, noise: float, count: int = 30, seed: int = 0) -> tuple[list[float], list[float]]:
    """Paired blocks of two kernels whose times are as `ratio`, with a drift that both share."""
    rng = np.random.default_rng(seed)
    drift = np.exp(rng.normal(0, 0.05, count).cumsum())
    a = ratio * drift * np.exp(rng.normal(0, noise, count))
    return a.tolist(), (drift * np.exp(rng.normal(0, noise, count))).tolist()


class TestVerdict:
    @pytest.mark.parametrize(
        ("ratio", "label"), [(0.9, Label.FASTER), (1.1, Label.SLOWER), (1.0, Label.SAME), (1.004, Label.UNDECIDED)]
    )
    def test_labels(self, ratio: float, label: Label) -> None:
        result = verdict(*blocks(ratio, 0.003), noise_floor=0.0)
        assert result.label is label
        assert result.interval is not None and result.ratio is not None
        assert result.interval[0] <= result.ratio <= result.interval[1]
        assert result.ratio == pytest.approx(ratio, rel=0.01)

    def test_a_noisy_machine_decides_less(self) -> None:
        a, b = blocks(0.97, 0.003)
        assert verdict(a, b, noise_floor=0.001).label is Label.FASTER
        assert verdict(a, b, noise_floor=0.02).label is Label.SAME  # 3 % is inside twice the floor
        assert verdict(a, b, noise_floor=0.0152).label is Label.UNDECIDED
        assert verdict(a, b, noise_floor=0.03).label is Label.UNDECIDED  # where 6 % may hide, nothing is the same
        assert verdict(a, b, noise_floor=math.inf).label is Label.UNDECIDED

    @given(st.lists(st.tuples(seconds, seconds), min_size=3, max_size=20), st.floats(0, 0.1))
    def test_swapping_the_rivals_swaps_the_verdict(self, pairs: list[tuple[float, float]], floor: float) -> None:
        a, b = [p[0] for p in pairs], [p[1] for p in pairs]
        opposite = {Label.FASTER: Label.SLOWER, Label.SLOWER: Label.FASTER}
        forth, back = verdict(a, b, floor), verdict(b, a, floor)
        # Interpolated quantiles of a bootstrap need not mirror to the last digit: borderline cases may differ.
        assert {forth.label, back.label} != {Label.FASTER} and {forth.label, back.label} != {Label.SLOWER}
        if len(pairs) < 6:
            assert back.label is opposite.get(forth.label, forth.label)

    def test_two_pairs_decide_nothing(self) -> None:
        result = verdict([1.0, 1.0], [9.0, 9.0], 0.0)
        assert (result.label, result.ratio, result.interval) == (Label.UNDECIDED, None, None)

    def test_three_pairs_decide_what_is_plain(self) -> None:
        assert verdict([0.1, 0.101, 0.1], [5.0, 5.2, 4.9], 0.01).label is Label.FASTER
        assert verdict([1.0, 1.1, 1.02], [1.1, 1.12, 1.13], 0.0).label is Label.UNDECIDED

    def test_unequal_numbers_are_refused(self) -> None:
        with pytest.raises(ValueError, match="pairs"):
            verdict([1.0] * 3, [1.0] * 4, 0.0)

    def test_the_same_data_give_the_same_verdict(self) -> None:
        a, b = blocks(0.99, 0.01)
        assert verdict(a, b, 0.001) == verdict(a, b, 0.001)

    @pytest.mark.parametrize("count", [3, 5, 8, 30])
    def test_false_alarms_are_rare(self, count: int) -> None:
        """A thing against itself, with a true floor of zero: a wrong verdict in at most 8 % of the runs (5 % is the
        interval's promise; a percentile bootstrap of few values falls a little short of it)."""
        runs = 300
        alarms = sum(
            verdict(*blocks(1.0, 0.02, count, seed), noise_floor=0.0).label in (Label.FASTER, Label.SLOWER)
            for seed in range(runs)
        )
        assert alarms <= 0.08 * runs


def grouped(
    rng: np.random.Generator, processes: int, between: float, within: float, each: int = 20
) -> tuple[list[float], list[float], list[int]]:
    """Blocks of one thing against itself, in processes that each put it a little differently into memory."""
    offsets = np.repeat(rng.normal(0, between, processes), each)
    a = np.exp(offsets + rng.normal(0, within, processes * each))
    b = np.exp(rng.normal(0, within, processes * each))
    return a.tolist(), b.tolist(), np.repeat(np.arange(processes), each).tolist()


class TestProcesses:
    @pytest.mark.parametrize(("processes", "between"), [(3, 0.02), (5, 0.02), (5, 0.0), (12, 0.03)])
    def test_what_differs_from_process_to_process_is_no_false_alarm(self, processes: int, between: float) -> None:
        rng = np.random.default_rng(3)
        runs, alarms, naive = 120, 0, 0
        for _ in range(runs):
            a, b, groups = grouped(rng, processes, between, 0.005)
            decided = (Label.FASTER, Label.SLOWER)
            alarms += verdict(a, b, 0.0, groups=groups).label in decided
            naive += verdict(a, b, 0.0).label in decided
        # 5 % is promised; a margin of 0.5 % must also be cleared, three standard errors are allowed for.
        assert alarms <= (0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)) * runs
        if between:
            assert naive > 0.08 * runs, "blocks of one process taken as independent: the simulation must show the harm"

    def test_five_per_cent_are_seen_all_the_same(self) -> None:
        rng = np.random.default_rng(4)
        seen = 0
        for _ in range(60):
            a, b, groups = grouped(rng, 5, 0.003, 0.01)
            floor = noise_floor(*grouped(rng, 5, 0.001, 0.01)[:2], groups=groups)
            seen += verdict([1.05 * s for s in a], b, floor, groups=groups).label is Label.SLOWER
        assert seen >= 57

    @given(st.lists(st.tuples(seconds, seconds), min_size=6, max_size=30), st.integers(1, 6))
    def test_processes_only_widen_the_interval(self, pairs: list[tuple[float, float]], processes: int) -> None:
        ratios = np.log([p[0] / p[1] for p in pairs])
        groups = [i % processes for i in range(len(pairs))]
        low, high = log_ratio_interval(ratios)
        wide_low, wide_high = log_ratio_interval(ratios, groups=groups)
        assert wide_low <= low <= high <= wide_high
        assert log_ratio_interval(ratios, groups=[0] * len(pairs)) == (low, high)


class TestUnpaired:
    def test_only_intervals_that_are_apart_decide(self) -> None:
        assert unpaired_verdict([1.0] * 8, [1.1] * 8).label is Label.FASTER
        assert unpaired_verdict([1.1] * 8, [1.0] * 8).label is Label.SLOWER
        assert unpaired_verdict([1.0, 1.2] * 4, [1.1, 1.3] * 4).label is Label.UNDECIDED
        assert unpaired_verdict([1.0] * 8, []).ratio is None

    @given(samples, samples)
    def test_it_is_never_the_same_and_never_against_its_ratio(self, a: list[float], b: list[float]) -> None:
        result = unpaired_verdict(a, b)
        assert result.label is not Label.SAME
        assert result.ratio is not None and result.interval is not None
        assert result.interval[0] <= result.ratio * (1 + 1e-12) and result.ratio <= result.interval[1] * (1 + 1e-12)
        assert (result.label is Label.FASTER) <= (result.ratio < 1)
        assert (result.label is Label.SLOWER) <= (result.ratio > 1)


@given(st.lists(st.booleans(), min_size=1), st.integers(0, 10))
def test_what_is_kept_is_clean_or_everything(preempted: list[bool], minimum: int) -> None:
    kept = undisturbed_rounds(preempted, minimum)
    assert len(kept) == len(preempted) or (not any(preempted[i] for i in kept) and len(kept) >= minimum)


def test_twice_the_noise_floor_bounds_the_median_log_ratio() -> None:
    a, b = blocks(1.0, 0.01)
    floor = noise_floor(a, b)
    ratios = np.log(a) - np.log(b)
    assert abs(np.median(ratios)) <= 2 * floor < 0.02
    low, high = log_ratio_interval(ratios)
    assert 2 * floor == max(abs(low), abs(high))


def test_a_floor_that_was_not_measured_is_infinite() -> None:
    assert noise_floor([1.0], [1.0]) == math.inf


def test_the_policy_type_is_what_the_protocols_say() -> None:
    """`should_stop` reads every field that `Policy` documents as a stop."""
    base = Policy(Fidelity.RANK, min_samples=6, min_time_s=1.0, max_time_s=2.0, half_width=0.01)
    steady = [1.0] * 6
    assert should_stop(steady, base, 1.5) is StopRule.HALF_WIDTH
    assert should_stop(steady[:5], base, 1.5) is None
    assert should_stop(steady, base, 0.5) is None
    assert should_stop([0.5, 1.5] * 3, base, 1.5) is None


@pytest.mark.parametrize(
    ("label", "ratio"), [(Label.SLOWER, 1.004), (Label.SLOWER, 0.9), (Label.FASTER, 0.996), (Label.FASTER, 1.2)]
)
def test_a_label_and_a_ratio_that_say_different_things_are_no_verdict(label: Label, ratio: float) -> None:
    with pytest.raises(ValueError, match="cannot be called"):
        Verdict(label, ratio, None)
    Verdict(label, None, None)
    Verdict(Label.SAME, ratio, None)


@given(st.lists(st.floats(0.9, 1.1), min_size=3, max_size=40), st.lists(st.floats(0.9, 1.1), min_size=3, max_size=40))
def test_whatever_is_compared_has_a_ratio_that_fits_its_label(first: list[float], second: list[float]) -> None:
    count = min(len(first), len(second))
    paired = verdict(first[:count], second[:count], noise_floor=0.0)
    assert paired.ratio is not None and paired.interval is not None
    assert paired.interval[0] <= paired.ratio <= paired.interval[1]
    unpaired_verdict(first, second)
