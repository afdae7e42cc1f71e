"""What every RecordStore must do. A test module subclasses the suite and gives it a `store` fixture."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.errors import StoreError
from tuner.protocols import RecordStore
from tuner.records import Conditions, Fidelity, Measurement, Record, Status


def make_record(**changes: object) -> Record:
    """A record with every field off its default. Features that are given without `columns` have no names."""
    measurement = Measurement(
        status=Status.OK,
        samples_s=(1.25e-3, 1.5e-3, 1 / 3),
        fidelity=Fidelity.RANK,
        stopped_by="half width",
        max_abs_error=1e-6,
        max_rel_error=2e-5,
        build_s=0.75,
        run_s=0.125,
        conditions=Conditions.from_json({"load": 0.5, "threads": 2, "governor": None, "cpus": [0, 1]}),
    )
    record = Record(
        run_id="run-1",
        task_key="0123456789abcdef",
        task_name="conv2d <3x3> ‘quoted’ 卷积",
        scope="cpu/2 threads",
        trial=7,
        candidate='[0, [[4, 16], 3], "unroll{depth=64}"]',
        proposer="tpe",
        measurement=measurement,
        seed=2**40,
        created_at="2026-01-02T03:04:05+00:00",
        features=(0.5, -1.0, 1024.0),
        columns=("store.max.0", "pass.unroll", "workload.flops"),
        environment="fedcba9876543210",
        commit="4a1f0c2e9d8b7a6f5e4d3c2b1a09f8e7d6c5b4a3+changes",
    )
    if "features" in changes:
        changes.setdefault("columns", ())
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
_ERROR = st.none() | st.floats(min_value=0, allow_nan=False)
_PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | _TEXT

_DETAILS = st.dictionaries(_TEXT, _PLAIN | st.lists(_PLAIN, max_size=3), max_size=3)


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    """Any legal measurement."""
    status = draw(st.sampled_from(Status))
    seconds = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
    return Measurement(
        status=status,
        samples_s=tuple(draw(st.lists(seconds, min_size=1, max_size=5))) if status is Status.OK else (),
        fidelity=draw(st.sampled_from(Fidelity)),
        stopped_by=draw(_TEXT),
        reason=draw(_TEXT),
        censored_at_s=draw(seconds) if status is Status.CENSORED else None,
        max_abs_error=draw(_ERROR),
        max_rel_error=draw(_ERROR),
        build_s=draw(st.floats(0, 1e6)),
        run_s=draw(st.floats(0, 1e6)),
        conditions=Conditions.from_json(
            draw(st.dictionaries(_TEXT, _PLAIN | st.lists(_PLAIN, max_size=3), max_size=3))
        ),
    )


_FEATURES = st.lists(st.floats(width=32, allow_nan=False), max_size=6).map(tuple)
_COLUMNS = st.lists(_TEXT, min_size=6, max_size=6).map(tuple)


def _record(features: tuple[float, ...], columns: tuple[str, ...], **others: Any) -> Record:
    return Record(features=features, columns=columns[: len(features)], **others)


_RECORDS = st.builds(
    _record,
    run_id=_TEXT,
    task_key=_TEXT,
    task_name=_TEXT,
    scope=_TEXT,
    trial=st.integers(-1, 2**31 - 1),
    candidate=_TEXT,
    proposer=_TEXT,
    measurement=measurements(),
    seed=st.integers(-(2**63), 2**63 - 1),
    created_at=_TEXT,
    features=_FEATURES,
    columns=st.just(()) | _COLUMNS,
    environment=_TEXT,
    commit=_TEXT,
)


class RecordStoreContract:
    """Promises of `tuner.protocols.RecordStore`."""

    @pytest.fixture
    def store(self) -> RecordStore:
        raise NotImplementedError("the implementation's test module provides the store")

    def test_a_new_store_is_empty(self, store: RecordStore) -> None:
        assert store.read() == []

    def test_a_record_comes_back_whole(self, store: RecordStore) -> None:
        store.append([make_record()])
        assert store.read() == [make_record()]

    def test_appending_nothing_stores_nothing(self, store: RecordStore) -> None:
        store.append([])
        assert store.read() == []

    def test_order_is_that_of_insertion(self, store: RecordStore) -> None:
        store.append([make_record(trial=trial) for trial in (5, 1, 3)])
        store.append([make_record(trial=trial) for trial in (2, 1)])
        assert [record.trial for record in store.read()] == [5, 1, 3, 2, 1]

    @pytest.mark.parametrize("field", ["scope", "task_key", "run_id"])
    def test_each_filter_selects(self, store: RecordStore, field: str) -> None:
        store.append([make_record(**{field: value}) for value in ("a", "b", "a ", "A", "%", "")])
        for value in ("a", "b", "%", ""):
            [record] = store.read(**{field: value})
            assert getattr(record, field) == value
        assert store.read(**{field: "absent' OR '1'='1"}) == []

    def test_several_tasks_are_read_in_the_order_of_insertion(self, store: RecordStore) -> None:
        store.append([make_record(task_key=key, trial=n) for n, key in enumerate("abcab")])
        assert [r.trial for r in store.read(task_key=["b", "a"])] == [0, 1, 3, 4]
        assert store.read(task_key=[]) == []

    def test_order_does_not_depend_on_the_clock(self, store: RecordStore) -> None:
        hours = ("12:00", "11:59", "03:00")
        store.append([make_record(created_at=f"2026-01-02T{hour}:00+00:00") for hour in hours])
        assert [r.created_at[11:16] for r in store.read()] == list(hours)

    def test_runs_are_open_until_they_are_ended(self, store: RecordStore) -> None:
        store.append([make_record(run_id=run) for run in ("a", "b", "a")])
        assert store.ended() == frozenset()
        store.end("a")
        store.end("a")
        store.end("never begun")
        assert store.ended() == {"a"}
        store.append([make_record(run_id="a")])  # resumed
        assert len(store.read(run_id="a")) == 3

    def test_a_failed_append_stores_nothing(self, store: RecordStore) -> None:
        for poison in (
            make_record(seed=2**63), make_record(task_name="\ud800"), make_record(run_id=None),
            make_record(candidate="a\0b"), make_record(environment="a\0b"), make_record(commit="a\0b"),
        ):  # fmt: skip
            with pytest.raises(StoreError):
                store.append([make_record(), poison])
        assert store.read() == []
        store.append([make_record()])
        assert store.read() == [make_record()]

    def test_filters_combine(self, store: RecordStore) -> None:
        store.append([make_record(scope=scope, task_key=key) for scope in "xy" for key in "kl"])
        [record] = store.read(scope="y", task_key="k")
        assert (record.scope, record.task_key) == ("y", "k")

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
    def test_failures_are_kept_with_their_reason(self, store: RecordStore, status: Status) -> None:
        limit = 0.25 if status is Status.CENSORED else None
        failed = Measurement(status, reason="because\nof this", censored_at_s=limit)
        store.append([make_record(measurement=failed)])
        [record] = store.read()
        assert record.measurement == failed

    def test_errors_that_are_no_numbers_survive(self, store: RecordStore) -> None:
        wrong = Measurement(Status.WRONG_RESULT, max_abs_error=math.nan, max_rel_error=math.inf)
        store.append([make_record(measurement=wrong)])
        [record] = store.read()
        assert record.measurement.max_abs_error is not None
        assert math.isnan(record.measurement.max_abs_error)
        assert record.measurement.max_rel_error == math.inf

    def test_features_come_back_as_float32(self, store: RecordStore) -> None:
        store.append([make_record(features=(0.1, 1e-30, math.inf))])
        [record] = store.read()
        assert record.features == pytest.approx((0.1, 1e-30, math.inf), rel=1e-7)

    def test_names_of_features_are_shared_by_the_records_that_have_them(self, store: RecordStore) -> None:
        names = [("a", "b"), ("b", "a"), ("a",), (), ("a", "b")]
        store.append([make_record(features=(1.0,) * len(columns), columns=columns) for columns in names])
        store.append([make_record(features=(1.0, 2.0), columns=("a", "b"))])
        read = [record.columns for record in store.read()]
        assert read == [*names, ("a", "b")]
        assert read[0] is read[4]
        assert read[0] is read[5]

    def test_features_may_have_no_names(self, store: RecordStore) -> None:
        store.append([make_record(features=(1.0, 2.0), columns=())])
        [record] = store.read()
        assert (record.features, record.columns) == ((1.0, 2.0), ())

    def test_an_environment_is_stored_once_under_its_id(self, store: RecordStore) -> None:
        facts = {"cpu": "CPU ‘quoted’ 卷积", "smt": None, "cores": 2, "packages": {"numpy": "1.0"}, "nul": "\0"}
        assert store.environment("fedcba9876543210") is None
        for _ in range(2):
            store.add_environment("fedcba9876543210", facts)
        store.add_environment("0123456789abcdef", {})
        assert store.environment("fedcba9876543210") == facts
        assert store.environment("0123456789abcdef") == {}
        assert store.environment("absent' OR '1'='1") is None
        assert store.read() == []

    def test_a_record_may_be_of_an_environment_without_facts(self, store: RecordStore) -> None:
        store.append([make_record(environment="lost")])
        [record] = store.read()
        assert record.environment == "lost"
        assert store.environment("lost") is None

    def test_an_environment_that_cannot_be_stored_is_refused(self, store: RecordStore) -> None:
        for poison in ("a\0b", "\ud800"):
            with pytest.raises(StoreError):
                store.add_environment(poison, {})
        with pytest.raises(TypeError, match="JSON"):
            store.add_environment("a", {"when": object()})
        assert store.environment("a") is None

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(records=st.lists(_RECORDS, min_size=1, max_size=4))
    def test_any_record_round_trips(self, store: RecordStore, records: list[Record]) -> None:
        before = len(store.read())
        store.append(records)
        assert store.read()[before:] == records
