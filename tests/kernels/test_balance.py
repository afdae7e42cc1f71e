"""Loops that end where their terms do, and threads that all have as much to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi
from tvm.target import Target

from kernels import examples
from kernels.nests.work import idle_share, work
from kernels.passes import PASSES, PassConfig
from kernels.passes.balance import Balance
from kernels.passes.bounds import Bounds
from kernels.passes.lanes import Lanes
from kernels.space import generate
from kernels.workload import from_prim_func
from tests.kernels.loop_programs import check, computed, in_parallel, parsed, reduced
from tests.kernels.programs import LLVM, llvm

THREE = Target({**LLVM, "num-cores": 3})


CONDITIONS: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "k <= i": lambda i, j, k: k <= i,
    "k < i": lambda i, j, k: k < i,
    "k >= i": lambda i, j, k: k >= i,
    "k > i + 2": lambda i, j, k: k > i + 2,
    "i - k >= 3": lambda i, j, k: i - k >= 3,
    "i + k < 9": lambda i, j, k: i + k < 9,
    "k >= i - 1 and k <= i + 1": lambda i, j, k: tirx.all(k >= i - 1, k <= i + 1),
    "k <= j": lambda i, j, k: k <= j,
    "k <= i and j <= i": lambda i, j, k: tirx.all(k <= i, j <= i),
    "k * 2 <= i": lambda i, j, k: k * 2 <= i,
    "k * k <= i": lambda i, j, k: k * k <= i,
}


def triangle(condition: str, size: int = 13, combiner: str = "sum", otherwise: float = 0.0) -> tirx.PrimFunc:
    """Reductions over the part of each row of a square where a condition on i, j and k holds."""
    a, b = te.placeholder((size, size), name="a"), te.placeholder((size, 7), name="b")
    k = te.reduce_axis((0, size), name="k")

    def element(i: tirx.Var, j: tirx.Var) -> tirx.PrimExpr:
        term = tirx.if_then_else(
            CONDITIONS[condition](i, j, k.var), a[i, k] * b[k, j], tirx.const(otherwise, "float32")
        )
        return getattr(te, combiner)(term, axis=k)

    return te.create_prim_func([a, b, te.compute((size, 7), element, name="out")])


@pytest.mark.parametrize("condition", [text for text in CONDITIONS if "*" not in text])
def test_conditions_become_bounds_and_change_no_result(condition: str) -> None:
    given = triangle(condition)
    changed = Bounds(True).on_function(in_parallel(given))
    solved = "j <= i" not in condition
    assert (Bounds().counters(changed, llvm())["conditions"] == 0) == solved
    assert (Bounds(True).refusal(given, llvm()) == "") == solved
    check(given, Lanes(16).on_function(changed))
    check(given, Balance(True).on_function(Lanes(16).on_function(changed)))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (triangle("k * 2 <= i"), "no reduction"),
        (triangle("k * k <= i"), "no reduction"),
        (triangle("k <= i", otherwise=1.0), "no reduction"),  # what is skipped counts
        (triangle("k <= i", combiner="max"), "no reduction"),
        (reduced((4, 9), topi.sum, 1), "no reduction"),
    ],
)
def test_what_is_no_bound_is_left_and_still_right(given: tirx.PrimFunc, why: str) -> None:
    assert why in Bounds(True).refusal(given, llvm())
    check(given, Bounds(True).on_function(given))


def test_a_maximum_over_a_triangle_has_a_bound() -> None:
    given = triangle("k <= i", combiner="max", otherwise=float(np.finfo("float32").min))
    changed = Bounds(True).on_function(given)
    assert Bounds().counters(changed, llvm())["conditions"] == 0
    check(given, changed)


def test_work_is_counted_by_iteration() -> None:
    [loop] = [part for part in [Bounds(True).on_function(triangle("k <= i")).body] if isinstance(part, tirx.For)]
    assert work(loop) == [7 * (1 + n + 1) for n in range(13)]  # each of 7 elements is cleared, then has n + 1 terms


@pytest.mark.parametrize(
    ("parts", "threads", "idle"),
    [
        ([1, 1], 2, 0.0),
        ([1, 1, 1], 2, 0.25),
        ([1], 2, 0.5),
        ([1, 2, 3, 4], 2, 1 - 10 / 14),
        ([], 2, 0.0),
        ([0], 1, 0.0),
    ],
)
def test_idle_shares(parts: list[int], threads: int, idle: float) -> None:
    assert idle_share(parts, threads) == pytest.approx(idle)


@pytest.mark.parametrize("size", [4, 13, 32])
def test_both_ends_of_a_triangle_go_to_one_thread(size: int) -> None:
    given = triangle("k <= i", size)
    before = Bounds(True).on_function(in_parallel(given))
    after = Balance(True).on_function(before)
    shares = [Balance().counters(f, llvm())["idle share"] for f in (before, after)]
    assert shares[1] < shares[0]
    if size == 32:
        assert shares[0] > 0.2
        assert shares[1] == 0.0
    check(given, after)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_short_loops_of_threads_are_divided_with_the_loop_inside(rows: int) -> None:
    a = te.placeholder((rows, 60, 16), name="a")
    given = te.create_prim_func([a, te.compute(a.shape, lambda i, j, k: a[i, j, k] + 1.0, name="out")])
    before = parsed("for i in T.parallel(3):\n    for j, k in T.grid(16, 1):\n        b[i, j] = a[i, j]")
    assert Balance(True).refusal(before, llvm()) == ""
    if rows > 1:
        before = in_parallel(given)
        after = Balance(True).on_function(before)
        assert Balance().counters(before, THREE)["idle share"] >= (0.0 if rows == 3 else 0.2)
        assert Balance().counters(after, THREE)["idle share"] < 0.03
        check(given, after)


def test_vectors_of_an_iteration_are_its_own() -> None:
    given = reduced((3, 7, 96), topi.sum, 1)
    before = Lanes(16).on_function(in_parallel(given))
    assert Balance(True).refusal(before, llvm()) == ""
    check(given, Balance(True).on_function(before))
    assert Balance.concerns(tvm.IRModule({"main": given}))


def test_a_loop_whose_iterations_depend_on_one_another_is_not_divided() -> None:
    body = "for i in T.parallel(3):\n    for j in range(15):\n        b[i, j + 1] = b[i, j] + a[i, j]"
    function = parsed(body)
    assert "no other division" in Balance(True).refusal(function, llvm())
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((8, 16)).astype("float32") for _ in range(2)]
    for one, other in zip(computed(function, given), computed(Balance(True).on_function(function), given), strict=True):
        np.testing.assert_array_equal(one, other)


def test_even_work_stays() -> None:
    function = in_parallel(examples.doubled())
    assert "less than 2 %" in Balance(True).refusal(function, llvm())


def test_triangles_are_searched_with_all_of_it() -> None:
    workload = from_prim_func(triangle("k <= i", 16), "triangle")
    space = generate(workload, llvm())
    assert {"bounds", "lanes", "balance"} <= set(space.pass_names)
    assert "loops" in {s.rule for s in space.sketches}
    assert not Bounds.concerns(tvm.IRModule({"main": reduced((4, 9), topi.sum, 1)}))
    config = PassConfig.from_text("bounds{on=1} lanes{width=16} balance{on=1}")
    assert list(PASSES).index("bounds") < list(PASSES).index("lanes") < list(PASSES).index("balance")
    check(workload.module()["main"], config.applied(in_parallel(triangle("k <= i", 16)), llvm()).function)
