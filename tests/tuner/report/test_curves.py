"""Best-so-far curves, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tuner.records import Measurement, Record, Status
from tuner.report import curves, tables

A, B = "a" * 16, "b" * 16


def record(task: str, seconds: float | None, at: str, run: str = "now") -> Record:
    measured = Measurement(Status.OK, (seconds,)) if seconds else Measurement(Status.BUILD_FAILED, reason="no")
    return Record(run, task, task, "scope", 0, f"c{at}", "tpe", measured, 0, f"2026-01-01T00:00:{at}+00:00")


@pytest.fixture
def kernels(summary: dict[str, Any]) -> list[tables.Kernel]:
    base = summary["kernels"][0]
    summary["kernels"] = [
        base | {"task": A, "weight": 2, "untuned_s": 8.0, "tuned_s": 2.0},
        base | {"task": B, "weight": 1, "untuned_s": 4.0, "tuned_s": 3.0},
    ]
    return tables.kernels(summary)


RECORDS = [
    record(A, 10.0, "10"),
    record(B, 3.0, "12"),
    record(A, None, "13"),
    record(A, 2.0, "20"),
    record(B, 3.5, "30"),
]


def test_tasks_start_at_untuned_and_hold_their_best(kernels: list[tables.Kernel]) -> None:
    tasks = curves.search_curves(kernels, RECORDS, "now").tasks
    assert tasks[1] == curves.Curve((0, 1, 2, 3, 3), (0, 0, 3, 10, 20), (0.25, 0.25, 0.25, 1.0, 1.0))
    assert tasks[2] == curves.Curve((0, 1, 2, 2), (0, 2, 20, 20), (0.75, 1.0, 1.0, 1.0))


def test_model_is_the_sum_over_calls(kernels: list[tables.Kernel]) -> None:
    model = curves.search_curves(kernels, RECORDS, "now").model_s
    assert model is not None
    assert model.trials == (0, 1, 2, 3, 4, 5)
    assert model.seconds == (0, 0, 2, 3, 10, 20)
    assert model.values == (20.0, 20.0, 19.0, 19.0, 7.0, 7.0)


def test_reused_records_are_known_from_the_start(kernels: list[tables.Kernel]) -> None:
    search = curves.search_curves(kernels, [record(A, 4.0, "01", run="before"), *RECORDS], "now")
    assert search.tasks[1].values[0] == 0.5
    assert search.model_s is not None
    assert search.model_s.values[0] == 12.0
    assert search.model_s.trials[-1] == 5


def test_unreadable_times_do_not_break_the_curve(kernels: list[tables.Kernel]) -> None:
    model = curves.search_curves(kernels, [record(A, 4.0, "xx"), *RECORDS], "now").model_s
    assert model is not None
    assert model.seconds == (0, 0, 0, 2, 3, 10, 20)


def test_without_trials_there_is_no_curve(kernels: list[tables.Kernel]) -> None:
    assert curves.search_curves(kernels, [], "now") == curves.SearchCurves({}, None)
