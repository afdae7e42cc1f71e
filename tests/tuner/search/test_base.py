import numpy as np
import pytest

from kernels.space import Candidate, DesignSpace
from tuner.records import Measurement, Status
from tuner.search.base import Pool, belongs, teaches, time_or_bound


def illegal(space: DesignSpace) -> Candidate:
    """The largest register tile of the first sketch."""
    knobs = space.sketches[0].knobs
    decisions = tuple(
        max(k.choices, key=lambda c: np.ravel(c)[-1]) if k.role == "spatial" else k.choices[0] for k in knobs
    )
    return Candidate(0, decisions)


def test_illegal_and_foreign_candidates_are_not_in_the_pool(space: DesignSpace) -> None:
    assert belongs(space, illegal(space))
    pool = Pool(space, 0)
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


def test_claim_once(space: DesignSpace) -> None:
    pool = Pool(space, 0)
    candidate = space.sample(np.random.default_rng(1))
    assert pool.claim(candidate)
    assert not pool.claim(candidate)


def test_drawing_does_not_claim(small_space: DesignSpace) -> None:
    pool = Pool(small_space, 0)
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
    pool = Pool(space, 0)
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
