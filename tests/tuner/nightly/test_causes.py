"""Which cause is named for which evidence."""

from __future__ import annotations

import pytest

from tuner.nightly import causes
from tuner.nightly.causes import Changes
from tuner.nights import Cause

COMMITS = ("a" * 40, "b" * 40)
TVM = {"apache-tvm": ("1+x", "1+y")}
TORCH = {"torch": ("2.0", "2.1")}
ORT = {"onnxruntime": ("1", "2")}


@pytest.mark.parametrize(
    ("changes", "earlier", "cause"),
    [
        (Changes(COMMITS), None, Cause.CODE),
        (Changes(COMMITS, ["kernels/space.py"]), None, Cause.CODE),
        (Changes(COMMITS, versions=ORT), None, Cause.CODE),  # no tuned model is made with it
        (Changes(versions=TVM), None, Cause.LIBRARY),
        (Changes(COMMITS, [], TVM), None, Cause.LIBRARY),
        (Changes(COMMITS, ["kernels/space.py"], TVM), None, Cause.UNKNOWN),
        (Changes(COMMITS, ["kernels/space.py"], TVM), 0.95, Cause.LIBRARY),
        (Changes(COMMITS, ["kernels/space.py"], TVM), 0.02, Cause.CODE),
        (Changes(COMMITS, None, TVM, same_code=True), None, Cause.NOISE),
        (Changes(), None, Cause.UNKNOWN),
    ],
)
def test_rebuilt(changes: Changes, earlier: float | None, cause: Cause) -> None:
    named, evidence = causes.of_rebuilt(changes, earlier)
    assert named is cause
    assert evidence


def test_the_earlier_commit_is_built_only_where_that_decides() -> None:
    assert causes.needs_earlier_commit(Changes(COMMITS, ["kernels/x.py"], TVM))
    assert causes.needs_earlier_commit(Changes(COMMITS, None, TVM))
    for changes in (Changes(COMMITS), Changes(versions=TVM), Changes(COMMITS, [], TVM), Changes(COMMITS, None, ORT)):
        assert not causes.needs_earlier_commit(changes)
    assert not causes.needs_earlier_commit(Changes(COMMITS, None, TVM, same_code=True))


@pytest.mark.parametrize(
    ("tries", "cause"),
    [
        ([0.2, 0.21, 0.19], Cause.SEARCH),
        ([0.2, 0.0, 0.01], Cause.LUCK),
        ([0.2, 0.2, 0.0], Cause.SEARCH),  # two of three
        ([0.2], Cause.LUCK),
        ([0.2, -0.2, -0.2], Cause.LUCK),  # the other side
        ([0.2, 0.2, 0.0, 0.0], Cause.LUCK),
    ],
)
def test_search(tries: list[float], cause: Cause) -> None:
    assert causes.of_search(Changes(COMMITS), tries[0], tries, 0.1)[0] is cause


def test_a_search_that_another_library_made_worse() -> None:
    assert causes.of_search(Changes(versions={"xgboost-cpu": ("1", "2")}), 0.2, [0.2, 0.2], 0.1)[0] is Cause.LIBRARY


def test_reference() -> None:
    slower, everything = 0.5, {"torch": 0.5, "onnxruntime": 0.45}
    assert causes.of_reference(Changes(), slower, everything, 0.3)[0] is Cause.ENVIRONMENT
    assert causes.of_reference(Changes(), slower, {}, 0.3)[0] is Cause.ENVIRONMENT
    assert (
        causes.of_reference(Changes(versions=TVM), slower, {"torch": 0.0, "onnxruntime": 0.0}, 0.3)[0] is Cause.LIBRARY
    )
    assert causes.of_reference(Changes(versions=TVM), slower, everything, 0.3)[0] is Cause.ENVIRONMENT
    assert causes.of_reference(Changes(), 0.1, everything, 0.3)[0] is Cause.NOISE


def test_baseline() -> None:
    cause, evidence = causes.of_baseline(Changes(versions=TORCH), "torch_compile", -0.2)
    assert cause is Cause.BASELINE and "torch 2.0 -> 2.1" in evidence
    assert causes.of_baseline(Changes(versions=TORCH), "onnxruntime", 0.2)[0] is Cause.NOISE
