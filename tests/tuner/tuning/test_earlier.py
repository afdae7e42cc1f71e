"""What a search may start from: earlier measurements of other tasks and devices, and other tasks' winners."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from costmodel.dataset import FAILURE, CandidateOutcome
from kernels.features import DEFAULTS
from kernels.space import Candidate
from tests.null_device import space_of
from tests.tuner.tuning.on_null import BEST, failed, record_of, task_named, timed
from tuner.environment import apart
from tuner.records import Fidelity, Measurement, Record, Status
from tuner.search.winners import Winners
from tuner.store import SqlStore
from tuner.tuning.earlier import earlier, note_winners, trials, vector_of

COLUMNS = ("a", "b")
TASK, OTHER = task_named("one"), task_named("other")


def taught(measurement: Measurement, **changes: Any) -> Record:
    """A record with features."""
    return record_of(**{
        "task": OTHER, "candidate": BEST, "measurement": measurement, "features": (1.0, 2.0), "columns": COLUMNS,
        **changes,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        (timed(0.5), CandidateOutcome(seconds=0.5)),
        (Measurement(Status.CENSORED, censored_at_s=0.25), CandidateOutcome(slower_than=0.25)),
        (failed(Status.RUN_FAILED), FAILURE),
        (failed(Status.INVALID), FAILURE),
    ],
)
def test_what_became_of_a_candidate(measured: Measurement, outcome: CandidateOutcome, store: SqlStore) -> None:
    store.append([taught(measured)])
    [(record, vector, found)] = trials(store, COLUMNS)
    assert record.measurement == measured
    assert vector.tolist() == [1.0, 2.0]
    assert found.seconds == (None if outcome.seconds is None else pytest.approx(outcome.seconds, rel=1e-4))
    assert found.slower_than == outcome.slower_than


@pytest.mark.parametrize(
    "record",
    [
        taught(failed(Status.SUSPECT)),
        taught(timed(0.5, Fidelity.RANK)),
        taught(timed(0.5, Fidelity.CERTIFY)),
        taught(timed(0.5), features=(), columns=()),
        taught(timed(0.5), columns=()),
        taught(timed(0.5), columns=("a", "unknown")),
    ],
    ids=["suspect", "ranked", "certified", "no features", "no names", "other names"],
)
def test_what_teaches_nothing_is_left_out(record: Record, store: SqlStore) -> None:
    store.append([record])
    assert list(trials(store, COLUMNS)) == []


def test_nothing_is_learned_elsewhere_from_a_device_that_stands_for_another(store: SqlStore) -> None:
    own, gpu = apart("0123456789abcdef"), "fedcba9876543210"
    store.append([taught(timed(0.5), scope=own), taught(timed(0.25), scope=gpu)])
    assert [group.split()[0] for group, *_ in earlier(store, COLUMNS, gpu, ())] == [gpu]
    assert [group.split()[0] for group, *_ in earlier(store, COLUMNS, "another", ())] == [gpu]
    assert {group.split()[0] for group, *_ in earlier(store, COLUMNS, own, ())} == {own, gpu}


def test_features_are_read_by_their_names() -> None:
    record = taught(timed(0.5), features=(1.0, 2.0, 3.0), columns=("b", "gone since", "a"))
    vector = vector_of(record, COLUMNS)
    assert vector is not None
    assert vector.tolist() == [3.0, 1.0]
    added = next(iter(DEFAULTS))
    with_default = vector_of(record, ("a", added))
    assert with_default is not None
    assert with_default.tolist() == [3.0, DEFAULTS[added]]


def test_only_other_tasks_and_other_devices_are_earlier(store: SqlStore) -> None:
    here, there = taught(timed(0.5), task=TASK), taught(timed(0.5), task=TASK, scope="there")
    another = taught(timed(0.5), task=OTHER)
    store.append([here, there, another])
    groups = [group for group, _, _ in earlier(store, COLUMNS, "scope", {TASK.key})]
    assert groups == [f"there {TASK.key}", f"scope {OTHER.key}"]


def winners_of(store: SqlStore, *ended: str) -> list[Candidate]:
    winners = Winners()
    note_winners(winners, store, "scope", {TASK.key}, ended)
    return winners.others(TASK.key)


def test_the_fastest_of_each_other_task_is_a_winner(store: SqlStore) -> None:
    slow, fast = Candidate(0, (1, 1, 1)), Candidate(0, (2, 2, 2))
    third = task_named("third")
    store.append([
        taught(timed(2.0), candidate=slow), taught(timed(1.0), candidate=fast), taught(timed(3.0), candidate=BEST),
        taught(timed(1.0), task=third, candidate=BEST), taught(timed(0.1), candidate=space_of().default()),
    ])  # fmt: skip
    assert winners_of(store, "earlier") == [fast, BEST]


@pytest.mark.parametrize(
    "record",
    [
        taught(timed(1.0), task=TASK),
        taught(timed(1.0), scope="another machine"),
        taught(failed(Status.WRONG_RESULT)),
        taught(timed(1.0), run_id="not ended"),
    ],
    ids=["its own", "elsewhere", "wrong", "of a run that may be replayed"],
)
def test_others_are_not(record: Record, store: SqlStore) -> None:
    store.append([record])
    assert winners_of(store, "earlier") == []


def test_a_damaged_candidate_is_nobody_s_winner(store: SqlStore) -> None:
    store.append([dataclasses.replace(taught(timed(1.0)), candidate="nonsense"), taught(timed(2.0))])
    assert winners_of(store, "earlier") == [BEST]
