"""What every search strategy promises. A test module subclasses StrategyContract and says how to make one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.space import Candidate, DesignSpace
from tuner.protocols import Proposal, Strategy
from tuner.records import Measurement, Status

CENSORED_ABOVE_S = 0.5

FAILURES = (
    Status.INVALID,
    Status.BUILD_FAILED,
    Status.BUILD_TIMEOUT,
    Status.RUN_FAILED,
    Status.WRONG_RESULT,
    Status.SUSPECT,
)


class EncodingFeaturizer:
    """The feature vector is the candidate's own encoding: a featurizer that needs no schedule."""

    def __init__(self, space: DesignSpace) -> None:
        self._space = space

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return [self._space.encode(c) for c in candidates]


def synthetic_seconds(space: DesignSpace, candidate: Candidate) -> float:
    """A smooth cost with interactions: a tile of 64 steps, one vector wide, a deep reduction, few passes touched."""
    encoding = space.encode(candidate).astype(float)
    tile, reduce, last = encoding[10], encoding[12], encoding[15]
    passes = sum(i != 0 for i in space.to_indices(candidate)[len(candidate.decisions) :])
    distance = (tile - 6) ** 2 + 0.5 * (reduce - 4) ** 2 + (last - 4) ** 2 + 0.3 * abs(tile - last - 2) + 0.4 * passes
    return 1e-3 * math.exp(0.15 * distance)


def timed(space: DesignSpace, candidate: Candidate) -> Measurement:
    seconds = synthetic_seconds(space, candidate)
    if seconds > CENSORED_ABOVE_S:
        return Measurement(Status.CENSORED, censored_at_s=CENSORED_ABOVE_S)
    return Measurement(Status.OK, samples_s=(seconds,))


def troubled(space: DesignSpace, candidate: Candidate, number: int) -> Measurement:
    """Every seventh trial fails, each time with the next kind of failure."""
    if number % 7 == 6:
        return Measurement(FAILURES[number // 7 % len(FAILURES)], reason="on purpose")
    return timed(space, candidate)


def drive(strategy: Strategy, space: DesignSpace, batches: int, batch: int = 8) -> list[Proposal]:
    """Ask and tell batch by batch; the proposals in order."""
    proposals: list[Proposal] = []
    for _ in range(batches):
        asked = strategy.ask(batch)
        for number, proposal in enumerate(asked, start=len(proposals)):
            strategy.tell(proposal.candidate, troubled(space, proposal.candidate, number))
        proposals += asked
    return proposals


class StrategyContract:
    """Fixtures `space` (some points illegal) and `small_space` (under 500 points) come from the test module.

    `batches` of 8 is how far a strategy is driven: past the point from which on it uses what it learned.
    """

    batches = 6

    def make(self, space: DesignSpace, seed: int) -> Strategy:
        raise NotImplementedError

    def test_asks_for_what_is_legal_and_new(self, space: DesignSpace) -> None:
        proposals = drive(self.make(space, 1), space, batches=self.batches)
        candidates = [p.candidate for p in proposals]
        assert len(candidates) == len(set(candidates)) == 8 * self.batches
        assert all(space.legal(c) for c in candidates)
        assert all(p.proposer for p in proposals)

    def test_never_repeats_itself_before_it_is_told(self, space: DesignSpace) -> None:
        strategy = self.make(space, 1)
        candidates = [p.candidate for _ in range(3) for p in strategy.ask(8)]
        assert len(set(candidates)) == len(candidates) == 24

    def test_same_seed_same_proposals(self, space: DesignSpace) -> None:
        first = drive(self.make(space, 7), space, self.batches)
        assert drive(self.make(space, 7), space, self.batches) == first
        assert self.make(space, 8).ask(8) != first[:8]

    def test_learns_from_what_it_did_not_propose(self, space: DesignSpace) -> None:
        strategy = self.make(space, 1)
        foreign = [space.default(), Candidate(len(space.sketches), (1, 2)), Candidate(0, ((3, 5),))]
        foreign += [space.sample(np.random.default_rng(i)) for i in range(20)]
        for number, candidate in enumerate(foreign):
            known = 0 <= candidate.sketch < len(space.sketches) and len(candidate.decisions) > 1
            told = troubled(space, candidate, number) if known else Measurement(Status.OK, samples_s=(0.1,))
            strategy.tell(candidate, told)
        asked = drive(strategy, space, batches=2)
        assert len(asked) == 16
        assert not {p.candidate for p in asked} & set(foreign)

    def test_goes_on_after_nothing_but_failures(self, space: DesignSpace) -> None:
        strategy = self.make(space, 1)
        for number in range(self.batches - 1):
            asked = strategy.ask(8)
            assert len(asked) == 8
            for proposal in asked:
                strategy.tell(proposal.candidate, Measurement(FAILURES[number], reason="on purpose"))

    def test_goes_on_with_outcomes_that_come_late(self, space: DesignSpace) -> None:
        strategy = self.make(space, 1)
        waiting = strategy.ask(8)
        for batch in range(self.batches - 1):
            asked = strategy.ask(8)
            for number, proposal in enumerate(waiting):
                strategy.tell(proposal.candidate, troubled(space, proposal.candidate, 8 * batch + number))
            waiting = asked
        assert len(waiting) == 8

    def test_uses_a_small_space_up_and_says_so(self, small_space: DesignSpace) -> None:
        strategy = self.make(small_space, 1)
        points = {
            small_space.from_indices(s.number, indices)
            for s in small_space.sketches
            for indices in np.ndindex(*small_space.sizes(s.number))
        }
        legal = {c for c in points if small_space.legal(c)}
        asked = [p.candidate for p in drive(strategy, small_space, batches=math.ceil(len(legal) / 8) + 1)]
        assert len(asked) == len(legal)
        assert set(asked) == legal
        assert strategy.ask(8) == []

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_asks_for_no_more_than_wanted(self, space: DesignSpace, count: int) -> None:
        assert len(self.make(space, 1).ask(count)) == count
