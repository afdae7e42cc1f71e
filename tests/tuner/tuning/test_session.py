"""What a session knows of an earlier search, and how it replays one that was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kernels.space import Candidate, DesignSpace
from tuner.config import SETTINGS as SETTINGS_OF
from tuner.protocols import BuildFailure, Proposal, Reference
from tuner.records import Conditions, Fidelity, Measurement, Record, Status
from tuner.search.ranker import FeatureCache
from tuner.tuning.ledger import Ledger
from tuner.tuning.session import Batch, Known, Step, TaskSession

SETTINGS = SETTINGS_OF["standard"]


class Told:
    """A strategy that asks for given candidates in turn, and remembers what it was told."""

    def __init__(self, asks: Sequence[Candidate] = ()) -> None:
        self.asks = list(asks)
        self.candidates: list[Candidate] = []

    def ask(self, count: int, refine: bool = False) -> list[Proposal]:
        asked, self.asks = self.asks[:count], self.asks[count:]
        return [Proposal(candidate, "test") for candidate in asked]

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self.candidates.append(candidate)


class Unbuildable:
    """A device on which nothing builds; it keeps what it was asked to build."""

    bench = SimpleNamespace(rechecks=False)

    def __init__(self) -> None:
        self.asked: list[Candidate] = []

    @property
    def builder(self) -> Unbuildable:
        return self

    def lower_bound_s(self, task: object) -> float:
        return 0.0

    def build(self, task: object, candidates: Sequence[Candidate], stop: object) -> list[BuildFailure]:
        self.asked += candidates
        return [BuildFailure(Status.BUILD_FAILED, "not here", 0.0) for _ in candidates]

    def reference(self, task: object, seeds: Sequence[int], folder: Path) -> dict[int, Reference]:
        return {seed: Reference(folder / "none", "float32", 1) for seed in seeds}


def screened(seconds: float, **conditions: Any) -> Measurement:
    return Measurement(Status.OK, (seconds,), Fidelity.SCREEN, conditions=Conditions.from_json(conditions))


def session(measurements: list[tuple[Candidate, Measurement]]) -> TaskSession:
    known = {(candidate.to_text(), found.fidelity): found for candidate, found in measurements}
    nothing = cast(Any, None)
    return TaskSession(
        nothing, DesignSpace("llvm", ()), cast(Any, Told()), nothing, cast(Any, Unbuildable()),
        Ledger(nothing, "run", "scope", 0), SETTINGS, Path(), cast(Known, known),
    )  # fmt: skip


class Stored:
    """A store that keeps what is appended."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, records: Sequence[Record]) -> None:
        self.records += records


class Resumed:
    """A session that was interrupted after some measurements, and what became of going on with it."""

    def __init__(
        self, folder: Path, asks: Sequence[Candidate], interrupted: Sequence[tuple[Candidate, Measurement]]
    ) -> None:
        self.strategy, self.builder, self.store = Told(asks), Unbuildable(), Stored()
        self.ledger = Ledger(cast(Any, self.store), "run", "scope", 0, numbered=len(interrupted))
        self.session = TaskSession(
            cast(Any, SimpleNamespace(key="key", name="name")), DesignSpace("llvm", ()), cast(Any, self.strategy),
            FeatureCache(cast(Any, None)), cast(Any, self.builder), self.ledger, SETTINGS, folder, {},
            interrupted={candidate.to_text(): measured for candidate, measured in interrupted},
        )  # fmt: skip

    def step(self, count: int) -> Step:
        return self.session.step(count, lambda: False)


def candidates(count: int) -> list[Candidate]:
    return [Candidate(0, (number,)) for number in range(count)]


DEFAULT = Candidate(-1)


def test_nothing_known() -> None:
    fresh = session([])
    assert fresh.batches() == []


def test_batches_are_those_of_the_records() -> None:
    a, b, c, d = candidates(4)
    found = session(
        [
            (a, screened(4.0, batch=1, cost_s=1.0)),
            (b, screened(2.0, batch=1, cost_s=0.5)),
            (DEFAULT, screened(9.0, batch=2, cost_s=3.0)),
            (c, screened(3.0, batch=2, cost_s=1.0)),
            (d, screened(1.0, batch=2, cost_s=1.0)),
        ]
    )
    assert found.batches() == [Batch(2, 1.5, 2.0), Batch(2, 5.0, 1.0)]


def test_the_untuned_program_is_no_batch_of_its_own() -> None:
    [a] = candidates(1)
    found = session([(a, screened(4.0, batch=1)), (DEFAULT, screened(9.0, batch=2, cost_s=3.0))])
    assert found.batches() == [Batch(1, 0.0, 4.0), Batch(0, 3.0, 4.0)]


def test_records_that_do_not_name_their_batch_count_in_sixteens() -> None:
    """Those of schema 1: one batch of all would look like a task on which time is wasted."""
    found = session([(c, screened(1.0 + n, cost_s=1.0)) for n, c in enumerate(candidates(40))])
    assert [batch.trials for batch in found.batches()] == [16, 16, 8]


@pytest.mark.parametrize("nonsense", [None, "x", [], 1.5])
def test_nonsense_in_a_record_is_no_batch(nonsense: Any) -> None:
    [a] = candidates(1)
    found = session([(a, screened(4.0, batch=nonsense, cost_s="x"))])
    assert [batch.trials for batch in found.batches()] == [1]
    assert found.known_cost_s == 0.0


def test_an_interrupted_search_is_asked_and_told_again(tmp_path: Path) -> None:
    """In the batches that it had; what was not measured of the last one is measured now, under the same number."""
    a, b, c, d = candidates(4)
    interrupted = [
        (a, screened(4.0, batch=1, cost_s=1.0)),
        (b, screened(3.0, batch=1, cost_s=2.0)),
        (c, screened(2.0, batch=2)),
    ]
    resumed = Resumed(tmp_path, [a, b, c, d], interrupted)
    assert resumed.strategy.candidates == []
    assert resumed.step(2) == Step(2, 0, exhausted=False)
    assert (resumed.strategy.candidates, resumed.builder.asked, resumed.store.records) == ([a, b], [], [])
    assert resumed.ledger.restored_s == 3.0
    assert resumed.step(2) == Step(2, 1, exhausted=False)
    assert (resumed.strategy.candidates, resumed.builder.asked) == ([a, b, c, d], [d])
    [record] = resumed.store.records
    assert (record.candidate, record.trial, record.measurement.conditions.batch) == (d.to_text(), 4, 2)
    assert [batch.trials for batch in resumed.session.batches()] == [2, 2]


def test_a_search_that_takes_another_way_is_told_all_that_is_known_first(tmp_path: Path) -> None:
    """After a change of the program, say. Nothing is measured twice, and later batches do not mix with earlier ones."""
    a, b, c, d = candidates(4)
    resumed = Resumed(
        tmp_path, [d, b], [(a, screened(4.0, batch=1)), (b, screened(3.0, batch=1)), (c, screened(2.0, batch=2))]
    )
    assert resumed.step(2) == Step(4, 1, exhausted=False)
    assert (resumed.strategy.candidates, resumed.builder.asked) == ([a, b, c, d], [d])
    assert [batch.trials for batch in resumed.session.batches()] == [2, 1, 1]


def test_what_is_not_replayed_is_restored(tmp_path: Path) -> None:
    a, b = candidates(2)
    resumed = Resumed(
        tmp_path, [], [(a, screened(4.0, batch=1)), (DEFAULT, screened(9.0)), (b, screened(3.0, batch=2))]
    )
    resumed.session.measure_default()
    assert resumed.session.untuned_s == 9.0
    resumed.session.restore_rest()
    assert list(resumed.session.screened) == [DEFAULT, a, b]
    assert resumed.strategy.candidates == [a, b]
    assert (resumed.ledger.trials, resumed.builder.asked) == (3, [])
