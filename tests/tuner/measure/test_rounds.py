"""Rounds: who takes part how often, what a preempted sample costs all entries, and when sampling ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from tuner.measure.rounds import InterleavedSamples, sample_rounds
from tuner.measure.stats import LEAST_ROUNDS, StopRule
from tuner.protocols import Policy
from tuner.records import Fidelity

POLICY = Policy(Fidelity.CERTIFY, min_samples=4, min_time_s=0.0, max_time_s=math.inf, half_width=0.0)


def never_preempted(entry: InterleavedSamples) -> tuple[float, bool]:
    return 1.0, False


def run(
    costs_s: list[float],
    sample: Callable[[InterleavedSamples], tuple[float, bool]] = never_preempted,
    policy: Policy = POLICY,
    budget_s: float = 60.0,
    seed: int = 0,
) -> list[InterleavedSamples]:
    entries = [InterleavedSamples(cost_s=cost_s) for cost_s in costs_s]
    sample_rounds(entries, sample, lambda entry: len(entry.seconds), policy, time.perf_counter() + budget_s, seed)
    return entries


def test_entries_of_like_cost_take_part_in_every_round() -> None:
    a, b = run([1.0, 3.0])
    assert a.rounds == b.rounds == [0, 1, 2, 3]
    assert a.stopped_by is b.stopped_by is StopRule.ENOUGH_SAMPLES


def test_a_costly_entry_takes_part_in_some_rounds_and_has_no_say_in_the_end() -> None:
    cheap, costly = run([1.0, 10.0], policy=Policy(Fidelity.CERTIFY, 40, 0.0, math.inf, 0.0))
    assert cheap.rounds == list(range(40))
    assert costly.period == 20
    assert costly.rounds == [0, 20]
    assert costly.stopped_by is StopRule.TIME_LIMIT


def test_a_preempted_sample_drops_its_round_for_all() -> None:
    def sample(entry: InterleavedSamples) -> tuple[float, bool]:
        preempted = entry.cost_s == 2.0 and len(entry.seconds) == 1
        return (9.0 if preempted else 1.0), preempted

    a, b = run([1.0, 2.0], sample, Policy(Fidelity.CERTIFY, 3, 0.0, math.inf, 0.0))
    assert a.rounds == b.rounds == [0, 2, 3]
    assert a.dropped == b.dropped == 1
    assert max(a.seconds + b.seconds) == 1.0


def test_where_every_round_is_preempted_all_are_kept() -> None:
    a, b = run([1.0, 1.0], lambda entry: (1.0, True))
    assert a.rounds == b.rounds == [0, 1, 2, 3]
    assert a.dropped == b.dropped == 0


def test_a_spent_budget_still_gives_the_least_rounds() -> None:
    [a] = run([1.0], budget_s=0.0, policy=Policy(Fidelity.CERTIFY, 40, 0.0, math.inf, 0.0))
    assert len(a.rounds) == LEAST_ROUNDS
    assert a.stopped_by is StopRule.TIME_LIMIT


def test_the_order_within_a_round_is_random_and_set_by_the_seed() -> None:
    def orders(seed: int) -> list[float]:
        order: list[float] = []

        def sample(entry: InterleavedSamples) -> tuple[float, bool]:
            order.append(entry.cost_s)
            return 1.0, False

        run([1.0, 2.0, 3.0], sample, seed=seed)
        return order

    assert orders(0) == orders(0) != orders(1)
    assert len({tuple(orders(0)[start : start + 3]) for start in range(0, 12, 3)}) > 1


def test_samples_as_a_control() -> None:
    samples = InterleavedSamples(cost_s=1.0, rounds=[0, 2], seconds=[1.0, 1.5])
    assert samples.control().to_json() == {"rounds": [0, 2], "seconds": [1.0, 1.5]}
