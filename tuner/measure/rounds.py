"""Rounds: several kernels of one task sampled interleaved in one process, so that drift is the same for all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeVar

from tuner.measure.stats import LEAST_ROUNDS, RARE, StopRule, periods, should_stop, undisturbed_rounds
from tuner.protocols import AaControl, Policy

_LOOK_EVERY = 4


@dataclass(kw_only=True)
class InterleavedSamples:
    """One kernel's samples: seconds per call, and the number of the round that each is from.

    `cost_s` is what taking a sample costs, `period` after how many rounds the kernel takes part again. `dropped` counts
    the samples that were left out because their rounds were preempted.
    """

    cost_s: float
    period: int = 1
    rounds: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    dropped: int = 0
    stopped_by: StopRule = StopRule.TIME_LIMIT

    def control(self) -> AaControl:
        """These samples, of the incumbent's second entry, as its A/A control."""
        return AaControl(tuple(self.rounds), tuple(self.seconds))

    def seconds_of(self, undisturbed: Set[int]) -> list[float]:
        """The samples from undisturbed rounds; all of them where none is."""
        return [self.seconds[i] for i in self._within(undisturbed)]

    def drop_preempted(self, undisturbed: Set[int]) -> None:
        """Keep what `seconds_of` returns, and its rounds."""
        kept = self._within(undisturbed)
        self.dropped = len(self.rounds) - len(kept)
        self.rounds, self.seconds = [self.rounds[i] for i in kept], [self.seconds[i] for i in kept]

    def _within(self, undisturbed: Set[int]) -> list[int]:
        return [i for i, number in enumerate(self.rounds) if number in undisturbed] or list(range(len(self.rounds)))


Samples = TypeVar("Samples", bound=InterleavedSamples)


def sample_rounds(
    entries: Sequence[Samples],
    sample: Callable[[Samples], tuple[float, bool]],
    elapsed_s: Callable[[Samples], float],
    policy: Policy,
    deadline: float,
    seed: int,
) -> None:
    """Fill `entries`, round by round with one sample of each that takes part, in random order.

    `sample` takes one: its seconds per call, and whether it was preempted. `elapsed_s` is what has been
    spent on an entry so far, for `policy`. Sampling ends when a rule of `policy` holds for every entry that takes part
    in every round, or at `deadline` (a moment of time.perf_counter), but not before LEAST_ROUNDS. A round with a
    preempted sample is dropped for all entries, so that what is left still pairs up.
    """
    regular = _with_periods(entries)
    rng = random.Random(seed)
    preempted: list[bool] = []
    while True:
        preempted.append(_round(entries, sample, len(preempted), rng))
        over = time.perf_counter() >= deadline
        if len(preempted) < LEAST_ROUNDS or not (over or len(preempted) % _LOOK_EVERY == 0):
            continue
        undisturbed = set(undisturbed_rounds(preempted, policy.min_samples))
        rules = [should_stop(entry.seconds_of(undisturbed), policy, elapsed_s(entry)) for entry in regular]
        if over or all(rules):
            break
    for entry, rule in zip(regular, rules, strict=True):
        entry.stopped_by = rule or StopRule.TIME_LIMIT
    for entry in entries:
        entry.drop_preempted(undisturbed)


def _with_periods(entries: Sequence[Samples]) -> list[Samples]:
    """Set each entry's period; returns those that take part in every round."""
    costs = [entry.cost_s for entry in entries]
    for entry, period in zip(entries, periods(costs), strict=True):
        entry.period = period
    return [entry for entry in entries if entry.cost_s <= RARE * min(costs)]


def _round(
    entries: Sequence[Samples], sample: Callable[[Samples], tuple[float, bool]], number: int, rng: random.Random
) -> bool:
    """Sample each entry that takes part in a round; whether any sample was preempted."""
    taking_part = [entry for entry in entries if number % entry.period == 0]
    rng.shuffle(taking_part)
    any_preempted = False
    for entry in taking_part:
        seconds, preempted = sample(entry)
        entry.seconds.append(seconds)
        entry.rounds.append(number)
        any_preempted = any_preempted or preempted
    return any_preempted
