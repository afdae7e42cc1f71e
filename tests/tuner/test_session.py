"""What a session knows of an earlier, perhaps killed search: its batches, and the one that was cut off."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kernels.space import Candidate, DesignSpace
from tuner.records import Measurement, Status, Tier
from tuner.session import Batch, Known, TaskSession


class Told:
    """A strategy that remembers what it was told."""

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self.candidates.append(candidate)


def screened(seconds: float, **conditions: Any) -> Measurement:
    return Measurement(Status.OK, (seconds,), Tier.SCREEN, conditions=conditions)


def session(measurements: list[tuple[Candidate, Measurement]]) -> TaskSession:
    known = {(candidate.to_text(), found.tier): found for candidate, found in measurements}
    nothing = cast(Any, None)
    space = DesignSpace("llvm", ())
    return TaskSession(
        nothing, space, cast(Any, Told()), nothing, nothing, nothing, nothing, nothing, cast(Known, known)
    )


def candidates(count: int) -> list[Candidate]:
    return [Candidate(0, (number,)) for number in range(count)]


DEFAULT = Candidate(-1)


def test_nothing_known() -> None:
    fresh = session([])
    assert fresh.batches() == []
    assert fresh.open_trials == 0


def test_batches_are_those_of_the_records() -> None:
    a, b, c, d = candidates(4)
    found = session(
        [
            (a, screened(4.0, batch=1, batch_of=2, cost_s=1.0)),
            (b, screened(2.0, batch=1, batch_of=2, cost_s=0.5)),
            (DEFAULT, screened(9.0, batch=2, cost_s=3.0)),
            (c, screened(3.0, batch=2, batch_of=2, cost_s=1.0)),
            (d, screened(1.0, batch=2, batch_of=2, cost_s=1.0)),
        ]
    )
    assert found.batches() == [Batch(2, 1.5, 2.0), Batch(2, 5.0, 1.0)]
    assert found.open_trials == 0


def test_a_batch_that_was_cut_off_is_open() -> None:
    a, b, c = candidates(3)
    found = session(
        [
            (a, screened(4.0, batch=1, batch_of=1)),
            (b, screened(4.0, batch=2, batch_of=8)),
            (c, screened(4.0, batch=2, batch_of=8)),
        ]
    )
    assert found.open_trials == 6


def test_a_death_after_the_untuned_program_leaves_no_open_batch_and_no_batch_of_its_own() -> None:
    [a] = candidates(1)
    found = session([(a, screened(4.0, batch=1, batch_of=1)), (DEFAULT, screened(9.0, batch=2, cost_s=3.0))])
    assert found.open_trials == 0
    assert found.batches() == [Batch(1, 0.0, 4.0), Batch(0, 3.0, 4.0)]


def test_records_that_do_not_name_their_batch_count_in_sixteens() -> None:
    """Those of schema 1: one batch of all would look like a task on which time is wasted."""
    found = session([(c, screened(1.0 + n, cost_s=1.0)) for n, c in enumerate(candidates(40))])
    assert [batch.trials for batch in found.batches()] == [16, 16, 8]
    assert found.open_trials == 0


@pytest.mark.parametrize("nonsense", [None, "x", [], 1.5])
def test_nonsense_in_a_record_is_no_batch(nonsense: Any) -> None:
    [a] = candidates(1)
    found = session([(a, screened(4.0, batch=nonsense, batch_of=nonsense, cost_s="x"))])
    assert found.open_trials == 0
    assert [batch.trials for batch in found.batches()] == [1]
    assert found.known_cost_s == 0.0
