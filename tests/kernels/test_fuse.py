"""Neighbouring loops as one: only where every dependence stays within an iteration, and right in every case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import te, tirx, topi

from kernels.nests.dependences import accesses, meet_only_in_same_iteration
from kernels.nests.nest import Refused
from kernels.nests.plain import plain
from kernels.passes import fuse
from kernels.passes.fuse import Fuse
from kernels.passes.lanes import Lanes
from tests.kernels.loop_programs import channels, check, computed, in_parallel, normalized, parsed, softmax
from tests.kernels.programs import llvm

PROGRAMS = {
    "layer norm": normalized(5, 13),
    "batch norm": channels(2, 5, 3),
    "one of a batch": channels(1, 5, 3),
    "equal extents": channels(3, 3, 3),
    "softmax": softmax(4, 11),
    "one row": softmax(1, 11),
}


@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_fusion_changes_no_result(name: str, parallel: bool) -> None:
    given = PROGRAMS[name]
    scheduled = in_parallel(given) if parallel else given
    check(given, Lanes(16 * parallel).on_function(Fuse(True).on_function(scheduled)))


def test_a_channel_passes_through_all_stages_before_the_next_and_keeps_one_of_each_sum() -> None:
    given = in_parallel(PROGRAMS["batch norm"])
    before, after = (Fuse().counters(f, llvm()) for f in (given, Fuse(True).on_function(given)))
    assert before["intermediate bytes"] > after["intermediate bytes"]
    assert str(Fuse(True).on_function(given).script()).count("T.parallel") == 1


def test_results_that_become_lanes_keep_their_loop_for_themselves() -> None:
    a = te.placeholder((9, 37), name="a")
    mean = topi.divide(topi.sum(a, 0), 9.0)
    given = te.create_prim_func([a, mean])
    assert "no neighbouring loops" in Fuse(True).refusal(given, llvm())
    check(given, Lanes(16).on_function(Fuse(True).on_function(given)))


def pair(first: str, second: str, extents: str = "8, 16") -> tirx.PrimFunc:
    return parsed("\n".join(f"for i, j in T.grid({extents}):\n    {body}" for body in (first, second)))


@pytest.mark.parametrize(
    ("first", "second", "legal"),
    [
        ("b[i, j] = a[i, j]", "b[i, j] = b[i, j] + T.float32(1)", True),
        ("b[i, j] = a[i, j]", "b[i, j] = b[i, 15 - j]", True),  # another element, of the same row
        ("b[i, j] = a[i, j]", "b[7 - i, j] = a[7 - i, j] + b[7 - i, j]", False),
        ("b[i, j] = a[i, j]", "b[i, j] = b[(i + 1) % 8, j]", False),
        ("b[i, j] = a[i, j]", "b[i, j] = b[T.max(i - 1, 0), j]", False),
        ("b[i, j] = a[i, j]", "b[i, j] = b[i // 2 + i // 2, j]", False),
        ("b[i, j] = a[i, j]", "b[i, j] = b[(2 * i + 1) // 2, j]", True),
        ("b[i, j] = b[i, j] + a[i, j]", "b[0, 0] = a[i, j]", False),
        ("b[i, j] = b[0, 0]", "b[i, j] = a[i, j]", False),  # the first reads what the second writes
    ],
)
def test_dependences_are_exact(first: str, second: str, legal: bool) -> None:
    one, other = plain(pair(first, second)).body.seq
    assert meet_only_in_same_iteration(one, other) == legal
    function = pair(first, second)
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((8, 16)).astype("float32") for _ in range(2)]
    expected = computed(function, given)
    changed = Fuse(True).on_function(function)
    for a, b in zip(computed(changed, given), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    counts = [Fuse().counters(f, llvm())["loops"] for f in (function, changed)]
    assert (counts[1] < counts[0]) == legal
    assert (Fuse(True).refusal(function, llvm()) == "") == legal


def test_without_the_proof_the_result_may_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [np.arange(128, dtype="float32").reshape(8, 16), np.zeros((8, 16), "float32")]

    def fused() -> NDArray[Any]:
        function = pair("b[i, j] = a[i, j]", "b[i, j] = b[(i + 1) % 8, j]")
        return computed(Fuse(True).on_function(function), given)[1]

    right = fused()
    monkeypatch.setattr(fuse, "meet_only_in_same_iteration", lambda one, other: True)
    assert not np.array_equal(fused(), right)


def test_a_statement_with_other_effects_is_refused() -> None:
    function = parsed("for i in range(8):\n    T.evaluate(T.call_extern('int32', 'printf'))")
    with pytest.raises(Refused, match="Evaluate"):
        list(accesses(function.body))


def test_without_the_library_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "available", lambda: False)
    assert Fuse.variants("llvm") == (Fuse(False),)
    assert "islpy" in Fuse(True).refusal(PROGRAMS["softmax"], llvm())
    assert not Fuse.concerns(tvm.IRModule({"main": PROGRAMS["softmax"]}))
