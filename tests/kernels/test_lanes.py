"""Reductions in vectors: right for every length, and left alone where that is not proven."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi
from tvm.target import Target

from kernels.nests.scalar import ELEMENTS, REDUCES, loop_kinds, scalar_loops
from kernels.passes import PassConfig
from kernels.passes.lanes import Lanes
from tests.kernels.loop_programs import (
    check,
    computed,
    gathered,
    in_parallel,
    normalized,
    parsed,
    product,
    reduced,
    softmax,
)
from tests.kernels.programs import LLVM, llvm, small_conv

PROGRAMS = {
    "rows of one": reduced((3, 1), topi.sum, 1),
    "rows of three": reduced((3, 3), topi.max, 1),
    "rows of four": reduced((5, 4), topi.sum, 1),
    "odd rows": reduced((4, 197), topi.sum, 1),
    "greatest of odd rows": reduced((4, 197), topi.max, 1),
    "least of rows": reduced((2, 64), topi.min, 1),
    "products of rows": reduced((3, 23), topi.prod, 1),
    "whole numbers": reduced((3, 31), topi.sum, 1, "int32"),
    "doubles": reduced((3, 131), topi.sum, 1, "float64"),
    "all in one": reduced((1031,), topi.sum, 0),
    "first axis": reduced((19, 29), topi.sum, 0),
    "middle axis": reduced((2, 13, 37), topi.max, 1),
    "two axes in a row": reduced((5, 7, 7), topi.sum, (1, 2)),
    "first and last axis": reduced((3, 5, 9), topi.sum, (0, 2)),
    "product by rows": product(1, 21, 43, transposed=True),
    "product by columns": product(2, 21, 43, transposed=False),
    "rows of a table": gathered(9, 35, 4),
    "layer norm": normalized(3, 77),
    "softmax": softmax(3, 53),
}


@pytest.mark.parametrize("number", range(len(PROGRAMS)), ids=list(PROGRAMS))
def test_vectors_change_no_result(number: int) -> None:
    given = list(PROGRAMS.values())[number]
    check(given, Lanes(64).on_function(given) if number % 2 else Lanes(16).on_function(in_parallel(given)))


def test_neighbouring_results_are_divided_among_threads_with_what_is_left_of_them() -> None:
    given = PROGRAMS["first axis"]
    changed = Lanes(16).on_function(in_parallel(given))
    assert "T.parallel(2)" in str(changed.script())
    check(given, changed)


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in ("rows of one", "rows of three")])
def test_every_reduction_of_at_least_four_becomes_vectors(name: str) -> None:
    changed = Lanes(16).on_function(PROGRAMS[name])
    assert "T.vectorized" in str(changed.script())
    assert Lanes(16).refusal(PROGRAMS[name], llvm()) == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("for i, j in T.grid(8, 15):\n    b[i, j + 1] = b[i, j + 1] + b[i, j]", "a recurrence"),
        (
            "for i, j in T.grid(8, 16):\n    if a[i, j] > T.float32(0):\n        b[i, 0] = b[i, 0] + a[i, j]",
            "a condition",
        ),
        ("for i, j in T.grid(8, 16):\n    b[i, 0] = b[i, 0] - a[i, j]", "no sum, product, maximum or minimum"),
        ("for i, j in T.grid(8, 16):\n    b[0, j // 2] = T.max(b[0, j // 2], a[i, j])", "written several times"),
        ("for j, i in T.grid(16, 8):\n    b[0, 0] = b[0, 0] + a[i, (j * 3) % 16]", "elements of a that lie 16 apart"),
        (
            "for i, j in T.grid(8, 16):\n    b[i, 0] = b[i, 0] + a[i, j]\n    b[i, 1] = b[i, 0]",
            "several statements",
        ),
    ],
)
def test_what_is_not_proven_stays_and_the_reason_is_said(body: str, reason: str) -> None:
    function = parsed(body)
    assert reason in Lanes(16).refusal(function, llvm())
    assert [why for _, why in scalar_loops(function, 16) if reason in why]
    assert str(Lanes(16).on_function(function).script()) == str(function.script())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("for i, j in T.grid(8, 16):\n    b[i, j] = a[i, j] + T.float32(1)", ELEMENTS),
        ("for i, j in T.grid(8, 16):\n    b[i, 0] = b[i, 0] + a[i, j]", REDUCES),
        ("for i, j in T.grid(2, 3):\n    b[i, 0] = b[i, 0] + a[i, j]", "3 iterations, which is no vector"),
        ("for i in range(8):\n    b[0, 0] = b[0, 0] + a[i, 0]", "elements of a that lie 16 apart"),
        (
            "for i in range(8):\n    b[0, 0] = b[0, 0] + a[0, (i * 3) % 16]",
            "gathered elements of a, which no stride describes",
        ),
        (
            "for i in range(16):\n    b[0, 0] = b[0, 0] + T.if_then_else(i < 5, a[0, i], T.float32(0))",
            "a condition on its own variable",
        ),
        (
            "for i in range(8):\n    b[i, 0] = T.float32(0)\n    for j in range(i):\n"
            "        b[i, 0] = b[i, 0] + a[j, 0]",
            "bounds that vary",
        ),
    ],
)
def test_why_an_innermost_loop_is_no_vector(body: str, reason: str) -> None:
    [(_, why)] = scalar_loops(parsed(body), 16)
    assert why == reason
    vectors = parsed("for i in range(8):\n    for j in T.vectorized(16):\n        b[i, j] = a[i, j]")
    assert scalar_loops(vectors, 16) == []
    assert loop_kinds(vectors) == {"vector": 1, "unrolled": 0, "scalar": 0}
    assert loop_kinds(parsed(body))["scalar"] == 1
    on_a_gpu = parsed(
        "for i in T.thread_binding(8, 'threadIdx.x'):\n    for j in range(16):\n        b[i, j] = a[i, j]"
    )
    assert scalar_loops(on_a_gpu, 16) == []


def test_powers_in_a_sum_become_polynomials_in_each_of_its_vectors() -> None:
    a = te.placeholder((3, 77), name="a")
    k = te.reduce_axis((0, 77), name="k")
    given = te.create_prim_func([a, te.compute((3,), lambda i: te.sum(te.exp(a[i, k]), axis=k), name="out")])
    applied = PassConfig.from_text("vector_math{on=1} lanes{width=16}").applied(given, llvm())
    assert not applied.refused
    check(given, applied.function)


@pytest.mark.parametrize(("dtype", "how"), [("float16", topi.max), ("int8", topi.max), ("uint8", topi.min)])
def test_other_dtypes(dtype: str, how: Any) -> None:
    given = reduced((3, 45), how, 1, dtype)
    assert Lanes(16).refusal(given, llvm()) == ""
    check(given, Lanes(16).on_function(given))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_loops_without_iterations_are_no_problem(shape: tuple[int, int]) -> None:
    empty = reduced(shape, topi.sum, 1)
    config = PassConfig.from_text("fuse{on=1} bounds{on=1} lanes{width=16} balance{on=1}")
    applied = config.applied(empty, llvm())
    assert len(applied.refused) == (3 if shape == (0, 5) else 4)
    computed(applied.function, [np.zeros(shape, "float32"), np.zeros(shape[0], "float32")])


def test_a_sum_that_was_begun_before_the_loops_goes_on() -> None:
    function = parsed("for i, j in T.grid(8, 15):\n    b[i, 15] = b[i, 15] + a[i, j]")
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((8, 16)).astype("float32") for _ in range(2))
    _, changed = computed(Lanes(16).on_function(function), [a, b])
    b[:, 15] += a[:, :15].sum(1)
    np.testing.assert_allclose(changed, b, rtol=1e-5)


def test_the_machine_adds_vectors() -> None:
    target = Target({**LLVM, "mcpu": "x86-64-v4"})
    function = reduced((8, 197), topi.sum, 1)

    def code(width: int) -> str:
        changed = Lanes(width).on_function(function).with_attr("global_symbol", "main")
        return str(tvm.compile(tvm.IRModule({"main": changed}), target).mod.inspect_source("asm"))

    assert not re.search(r"vaddps\s.*[yz]mm", code(0))
    assert re.search(r"vaddps\s.*[yz]mm", code(16))


def test_it_is_searched_where_a_reduction_streams_its_operands() -> None:
    assert Lanes.concerns(tvm.IRModule({"main": PROGRAMS["odd rows"]}))
    assert not Lanes.concerns(tvm.IRModule({"main": product(64, 64, 64, transposed=False)}))
    a = te.placeholder((4, 9), name="a")
    doubled: tirx.PrimFunc = te.create_prim_func([a, te.compute(a.shape, lambda i, j: a[i, j] * 2.0)])
    assert not Lanes.concerns(tvm.IRModule({"main": doubled}))
    assert not Lanes.concerns(small_conv().module())
