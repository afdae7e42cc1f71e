import dataclasses

import numpy as np
import pytest

from kernels.passes.fast_math import FastMath
from kernels.space import Candidate, DesignSpace
from tuner.records import Measurement, Status
from tuner.search.base import CandidatePool, belongs, candidate_of, teaches, time_or_bound
from tuner.search.random import RandomStrategy


def illegal(space: DesignSpace) -> Candidate:
    """The largest register tile of the first sketch."""
    knobs = space.sketches[0].knobs
    decisions = tuple(
        max(k.choices, key=lambda c: np.ravel(c)[-1]) if k.role == "spatial" else k.choices[0] for k in knobs
    )
    return Candidate(0, decisions)


def test_illegal_and_foreign_candidates_are_not_in_the_pool(space: DesignSpace) -> None:
    assert belongs(space, illegal(space))
    pool = CandidatePool(space, 0)
    assert illegal(space) not in pool
    for foreign in (space.default(), Candidate(99), Candidate(0), Candidate(0, ((7, 7),) * 5)):
        assert not belongs(space, foreign)
        assert foreign not in pool
        assert not pool.claim(foreign)


def test_pass_setting_outside_the_space_is_foreign(small_space: DesignSpace, space: DesignSpace) -> None:
    base = small_space.from_indices(0, [0] * len(small_space.sizes(0)))
    unroll = space.pass_variants[space.pass_names.index("unroll")][2]
    assert belongs(small_space, base)
    assert not belongs(small_space, Candidate(0, base.decisions, base.passes.replace(unroll)))


def test_stored_candidates_of_this_space_only(small_space: DesignSpace, space: DesignSpace) -> None:
    known = space.sample(np.random.default_rng(1))
    assert candidate_of(space, known.to_text()) == known
    assert candidate_of(space, space.default().to_text()) == space.default()
    assert candidate_of(small_space, known.to_text()) is None
    allowed = dataclasses.replace(space, pass_names=tuple(n for n in space.pass_names if n != "fast_math"))
    fast = Candidate(known.sketch, known.decisions, known.passes.replace(FastMath(True)))
    assert candidate_of(space, fast.to_text()) == fast
    assert candidate_of(allowed, fast.to_text()) is None, "this run does not allow fast math"
    for damaged in ("", "[0,[", '[1e999,[],""]', '[0,"12",""]', "[" * 100_000, '[0,[Infinity],""]', '[9,[],""]'):
        assert candidate_of(space, damaged) is None


def test_claim_once(space: DesignSpace) -> None:
    pool = CandidatePool(space, 0)
    candidate = space.sample(np.random.default_rng(1))
    assert pool.claim(candidate)
    assert not pool.claim(candidate)


def test_drawing_does_not_claim(small_space: DesignSpace) -> None:
    pool = CandidatePool(small_space, 0)
    points = small_space.count().points
    for _ in range(5 * points):
        assert pool.draw() is not None
    drawn = []
    while (candidate := pool.draw()) is not None:
        assert pool.claim(candidate)
        drawn.append(candidate)
    assert len(drawn) == len(set(drawn)) == points
    assert pool.mutation(drawn[0]) is None


def test_mutation_is_near_and_new(space: DesignSpace) -> None:
    pool = CandidatePool(space, 0)
    base = space.sample(np.random.default_rng(1))
    pool.claim(base)
    for _ in range(20):
        mutated = pool.mutation(base)
        assert mutated is not None
        assert mutated.sketch == base.sketch
        assert sum(a != b for a, b in zip(space.to_indices(mutated), space.to_indices(base), strict=True)) == 1


@pytest.mark.parametrize(
    ("measurement", "expected"),
    [
        (Measurement(Status.OK, samples_s=(1.0, 3.0, 2.0)), 2.0),
        (Measurement(Status.CENSORED, censored_at_s=5.0), 5.0),
        (Measurement(Status.RUN_TIMEOUT), None),
    ],
)
def test_time_or_bound(measurement: Measurement, expected: float | None) -> None:
    assert time_or_bound(measurement) == expected
    assert teaches(measurement)


def test_a_doubtful_clock_teaches_nothing() -> None:
    assert not teaches(Measurement(Status.SUSPECT))


def test_a_resumed_random_search_goes_on_where_it_was(space: DesignSpace) -> None:
    """However many candidates are known: a resumed search draws them all again before the first new one."""
    whole = [p.candidate for p in RandomStrategy(space, seed=3).ask(200)]
    for known in (10, 150):
        resumed = RandomStrategy(space, seed=3)
        for candidate in whole[:known]:
            resumed.tell(candidate, Measurement(Status.OK, (1e-3,)))
        assert [p.candidate for p in resumed.ask(200 - known)] == whole[known:]
