"""Borders that are kept, taken out of their loops; and stores past the caches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx

from kernels import examples, reference
from kernels.dots import imported
from kernels.passes import PassConfig, borders
from kernels.passes.borders import Borders
from kernels.space import Candidate, TraceApplier, generate
from kernels.workload import from_prim_func, seeded_inputs
from tests.kernels.loop_programs import check, in_parallel
from tests.kernels.programs import llvm

Condition = Callable[..., Any]

BOXES: Mapping[str, Condition] = {
    "all sides": lambda i, j: tirx.all(i >= 1, i < 8, j >= 1, j <= 14),
    "one side": lambda i, j: j > 3,
    "a row": lambda i, j: tirx.all(i.equal(4), j > 0),
    "the last column": lambda i, j: tirx.all(tirx.IntImm("int32", 15) <= j),
    "beyond the ends": lambda i, j: tirx.all(i >= -2, i < 4, j < 99),
    "a triangle within": lambda i, j: tirx.all(i >= 1, j >= 1, j <= i),
    "two parts within": lambda i, j: tirx.all(i >= 1, tirx.any(j < 3, j > 12)),
    "reversed": lambda i, j: tirx.all(7 - i >= 0, 13 - j > 0),
}


def kept(condition: Condition, shape: tuple[int, int] = (9, 16), dtype: str = "float32") -> tirx.PrimFunc:
    a, old = te.placeholder(shape, dtype, name="a"), te.placeholder(shape, dtype, name="old")

    def element(i: Any, j: Any) -> Any:
        return tirx.if_then_else(condition(i, j), a[i, j] + a[i, j] * a[i, j], old[i, j])

    return te.create_prim_func([a, old, te.compute(shape, element, name="out")])


@pytest.mark.parametrize("name", BOXES)
def test_a_border_has_loops_of_its_own_and_the_result_is_the_same(name: str) -> None:
    given = kept(BOXES[name])
    assert Borders.concerns(tvm.IRModule({"main": given}))
    changed = Borders(True).on_function(in_parallel(given))
    check(given, changed)
    within = name in ("a triangle within", "two parts within")
    assert Borders().counters(changed, llvm())["conditions"] == within


@pytest.mark.parametrize("dtype", ["float64", "int32", "int8"])
def test_other_types(dtype: str) -> None:
    given = kept(BOXES["all sides"], dtype=dtype)
    check(given, Borders(True).on_function(given))


def test_what_is_no_kept_border_is_refused() -> None:
    a, old = te.placeholder((9, 16), name="a"), te.placeholder((9, 16), name="old")

    def padded(i: Any, j: Any) -> Any:
        return tirx.if_then_else(i > 1, a[i, j], tirx.const(0, "float32"))

    def moved(i: Any, j: Any) -> Any:
        return tirx.if_then_else(i > 1, a[i, j], old[8 - i, j])

    def by_data(i: Any, j: Any) -> Any:
        return tirx.if_then_else(a[i, j] > 1, a[i, j], old[i, j])

    for element in (padded, moved, by_data):
        program = te.create_prim_func([a, old, te.compute((9, 16), element, name="out")])
        assert "no element is kept" in Borders(True).refusal(program, llvm())
    assert Borders(True).refusal(examples.triangle(), llvm())
    assert "no large result" in Borders(True, True).refusal(kept(BOXES["all sides"]), llvm())
    assert Borders(False, True).refusal(kept(BOXES["all sides"]), llvm())


def with_stores(given: tirx.PrimFunc) -> tuple[Any, str]:
    """The output of a program whose inside is stored past the caches, and its assembly."""
    function = imported(Borders(True, True).on_function(in_parallel(given)))
    library = tvm.compile(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), llvm())
    workload = from_prim_func(given, "program")
    arrays = [*seeded_inputs(workload.inputs, 1), np.full(workload.outputs[0].shape, 7, workload.outputs[0].dtype)]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    library["main"](*tensors)
    [expected] = reference.evaluate(workload.module()["main"], arrays[:-1])
    np.testing.assert_allclose(tensors[-1].numpy(), expected, rtol=1e-6)
    return tensors[-1], str(library.mod.inspect_source("asm"))


@pytest.mark.parametrize(
    ("columns", "dtype", "streams"),
    [(64, "float32", True), (33, "float32", False), (135, "float32", True), (40, "float64", True), (64, "int32", True)],
)
def test_whole_vectors_are_stored_past_the_caches(
    columns: int, dtype: str, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(borders, "_LEAST_BYTES", 0)
    borders.forget()
    given = kept(lambda i, j: tirx.all(i >= 1, j >= 1, j < columns - 1), (9, columns), dtype)
    try:
        refused = Borders(True, True).refusal(given, llvm())
        assert (refused == "") == streams
        if streams:
            assert Borders().counters(Borders(True, True).on_function(given), llvm())["streams"] == 2  # and a fence
            _, assembly = with_stores(given)
            assert "vmovnt" in assembly and "sfence" in assembly
    finally:
        borders.forget()


def test_a_design_space_has_the_pass_and_a_sketch_that_it_works_on() -> None:
    workload = from_prim_func(kept(BOXES["all sides"], (33, 47)), "stencil")
    space = generate(workload, llvm())
    assert "borders" in space.pass_names
    sketch = next(s for s in space.sketches if s.rule == "loops")
    candidate = Candidate(sketch.number, (), PassConfig.from_text("borders{on=1}"))
    function = TraceApplier(workload, space, llvm()).apply(candidate).mod["main"]
    applied = candidate.passes.applied(function, llvm())
    assert applied.refused == {}
    check(workload.module()["main"], applied.function)
