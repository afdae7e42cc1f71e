"""Records as they come in: numbered, counted, and of which run they are."""

from __future__ import annotations

import pytest

from kernels.space import DesignSpace
from tests.tuner.tuning.on_null import BEST, failed, task_named, timed
from tuner.protocols import Proposal
from tuner.records import Conditions, Fidelity, Measurement, Status
from tuner.store import SqlStore
from tuner.tuning.ledger import BEGINNING, Ledger, batch_of, cost_s

TASK = task_named()
PROPOSAL = Proposal(BEST, "mutate")


def test_a_record_says_what_it_is_of(store: SqlStore) -> None:
    ledger = Ledger(store, "run", "scope", 7, environment="here", commit="a commit", columns=("a", "b"))
    ledger.write(TASK, PROPOSAL, timed(1.0), (0.5, 2.0))
    [record] = store.read()
    assert (record.run_id, record.scope, record.seed, record.trial) == ("run", "scope", 7, 1)
    assert (record.task_key, record.task_name) == (TASK.key, TASK.name)
    assert (record.candidate, record.proposer) == (BEST.to_text(), "mutate")
    assert (record.features, record.columns) == ((0.5, 2.0), ("a", "b"))
    assert (record.environment, record.commit) == ("here", "a commit")
    assert record.measurement == timed(1.0)
    assert record.created_at.endswith("+00:00")


def test_a_record_without_features_names_no_columns(store: SqlStore) -> None:
    Ledger(store, "run", "scope", 0, columns=("a",)).write(TASK, PROPOSAL, timed(1.0))
    [record] = store.read()
    assert (record.features, record.columns) == ((), ())


def test_only_a_screening_is_a_trial(store: SqlStore) -> None:
    ledger = Ledger(store, "run", "scope", 0, numbered=10)
    for fidelity in (Fidelity.SCREEN, Fidelity.RANK, Fidelity.CERTIFY, Fidelity.SCREEN):
        ledger.write(TASK, PROPOSAL, timed(1.0, fidelity))
    assert (ledger.trials, ledger.measured, ledger.numbered) == (2, 4, 12)
    assert [r.trial for r in store.read()] == [11, 11, 11, 12], "the others name the trial before them"


def test_what_was_measured_is_counted_by_its_purpose(store: SqlStore) -> None:
    ledger = Ledger(store, "run", "scope", 0)
    for fidelity in (Fidelity.SCREEN, Fidelity.SCREEN, Fidelity.RANK, Fidelity.CERTIFY, Fidelity.CERTIFY):
        ledger.write(TASK, PROPOSAL, timed(1.0, fidelity))
    ledger.write(TASK, Proposal(DesignSpace("null", ()).default(), "default"), timed(1.0))
    ledger.write(TASK, Proposal(BEST, BEGINNING), timed(1.0))
    assert dict(ledger.counts) == {"candidates": 2, "untuned": 1, "beginnings": 1, "rank": 1, "certify": 2}
    assert sum(ledger.counts.values()) == ledger.measured


@pytest.mark.parametrize(
    ("measured", "counted"),
    [
        (timed(1.0), {}),
        (Measurement(Status.CENSORED, censored_at_s=1.0), {}),
        (failed(Status.DEFERRED), {}),
        (failed(Status.WRONG_RESULT), {"wrong result": 1}),
        (failed(Status.SUSPECT), {"suspect": 1}),
        (failed(Status.INVALID), {"invalid": 1}),
    ],
)
def test_failures_are_counted_by_kind(measured: Measurement, counted: dict[str, int], store: SqlStore) -> None:
    ledger = Ledger(store, "run", "scope", 0)
    ledger.write(TASK, PROPOSAL, measured)
    assert dict(ledger.failed) == counted
    ledger.restore(measured)
    assert dict(ledger.failed) == {kind: 2 * count for kind, count in counted.items()}


def test_what_is_restored_is_a_trial_and_is_not_written(store: SqlStore) -> None:
    ledger = Ledger(store, "run", "scope", 0, numbered=2)
    ledger.restore(timed(1.0, cost_s=0.5))
    ledger.restore(timed(1.0, cost_s=0.25))
    assert (ledger.trials, ledger.measured, ledger.numbered, ledger.restored_s) == (2, 0, 2, 0.75)
    assert store.read() == []


def test_a_record_that_does_not_say_cost_nothing_and_was_probed() -> None:
    silent = Measurement(Status.OK, (1.0,))
    assert (cost_s(silent), batch_of(silent)) == (0.0, 0)
    stated = Measurement(Status.OK, (1.0,), conditions=Conditions(cost_s=0.5, batch=3))
    assert (cost_s(stated), batch_of(stated)) == (0.5, 3)
