"""Operators that do nothing go, and only those; what TVM computes without our passes is the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tests.tuner.graph.graphs import drawn, graph, operators, run
from tuner.graph import clean

op = relax.op
Build = Callable[..., Any]


def scalar(value: float) -> Any:
    return relax.const(np.float32(value), "float32")


def filled(shape: tuple[int, ...], value: float) -> Any:
    return relax.const(np.full(shape, value, np.float32), "float32")


SIMPLER: dict[str, tuple[Build, list[str]]] = {
    "x + 0": (lambda emit, x: emit(op.add(x, scalar(0))), []),
    "0 + x": (lambda emit, x: emit(op.add(scalar(0), x)), []),
    "x - 0": (lambda emit, x: emit(op.subtract(x, scalar(0))), []),
    "0 - x": (lambda emit, x: emit(op.subtract(scalar(0), x)), ["subtract"]),
    "x / 1": (lambda emit, x: emit(op.divide(x, scalar(1))), []),
    "1 / x": (lambda emit, x: emit(op.divide(scalar(1), x)), ["divide"]),
    "a mask of zeros": (lambda emit, x: emit(op.add(x, filled((1, 3, 4), 0))), []),
    "a bias of zeros": (lambda emit, x: emit(op.add(x, filled((4,), 0))), ["add"]),
    "a sum that broadcasts": (lambda emit, x: emit(op.add(x, filled((5, 2, 3, 4), 0))), ["add"]),
    "x^2": (lambda emit, x: emit(op.power(x, scalar(2))), ["multiply"]),
    "x^3": (lambda emit, x: emit(op.power(x, scalar(3))), ["multiply", "multiply"]),
    "x^2.5": (lambda emit, x: emit(op.power(x, scalar(2.5))), ["power"]),
    "2^x": (lambda emit, x: emit(op.power(scalar(2), x)), ["power"]),
}


@pytest.mark.parametrize("name", SIMPLER)
def test_cheaper_operators_compute_the_same(name: str) -> None:
    build, left = SIMPLER[name]
    module = graph(lambda emit, x: build(emit, emit(op.abs(x))), (2, 3, 4))
    cleaned = clean(module)
    assert operators(cleaned) == ["abs", *left]
    inputs = drawn((2, 3, 4))
    np.testing.assert_allclose(run(cleaned, *inputs), run(module, *inputs), rtol=1e-6)


def test_a_constant_of_equal_elements_is_a_scalar() -> None:
    cleaned = clean(graph(lambda emit, x: emit(op.multiply(x, filled((3, 4), 2))), (2, 3, 4)))
    [call] = [binding.value for binding in cleaned["main"].body.blocks[0].bindings]
    assert call.args[1].value.numpy().shape == ()


# --- rows that are masked as a whole -----------------------------------------------------------------

CAUSAL = np.where(np.tri(6, dtype=bool), 0, -np.inf).astype(np.float32)
EMPTY = np.where(np.arange(6)[:, None] == 2, -np.inf, CAUSAL).astype(np.float32)


def attention(mask: Any, test: str) -> Build:
    """Scores, masked, and their softmax with zeros where the exporter's test holds."""

    def build(emit: Any, x: Any, y: Any, *given: Any) -> Any:
        scores = emit(op.multiply(emit(op.matmul(x, y)), scalar(0.5)))
        scores = emit(op.add(scores, given[0] if mask is None else relax.const(mask, "float32")))
        softmax = emit(op.nn.softmax(scores, -1))
        if test == "all masked":
            some = emit(op.logical_not(emit(op.equal(scores, scalar(-np.inf)))))
            most = emit(op.max(emit(op.astype(some, "int8")), [-1], keepdims=True))
            condition = emit(op.logical_not(emit(op.astype(most, "bool"))))
        else:
            condition = emit(op.isnan(softmax))
            condition = emit(op.logical_not(condition)) if test == "is a number" else condition
        return emit(op.where(condition, emit(op.full_like(softmax, scalar(0))), softmax))

    return build


SHAPES = ((2, 6, 8), (2, 8, 6))


@pytest.mark.parametrize("test", ["all masked", "is not a number"])
@pytest.mark.parametrize(("mask", "goes"), [(CAUSAL, True), (EMPTY, False), (None, False)])
def test_the_test_for_masked_rows_goes_where_no_row_is_masked(test: str, mask: Any, goes: bool) -> None:
    shapes = SHAPES if mask is not None else (*SHAPES, (6, 6))
    module = graph(attention(mask, test), *shapes)
    cleaned = clean(module)
    assert ("where" not in operators(cleaned)) == goes
    if goes:
        assert operators(cleaned) == ["matmul", "multiply", "add", "nn.softmax"]
    inputs = drawn(*shapes)
    output = run(cleaned, *inputs)
    np.testing.assert_allclose(output, run(module, *inputs), rtol=1e-6)
    assert np.isfinite(output).all()


def test_another_test_stays() -> None:
    assert "where" in operators(clean(graph(attention(CAUSAL, "is a number"), *SHAPES)))


def test_scores_that_are_no_product_may_be_masked() -> None:
    def build(emit: Any, x: Any) -> Any:
        softmax = emit(op.nn.softmax(x, -1))
        return emit(op.where(emit(op.isnan(softmax)), scalar(0), softmax))

    assert "where" in operators(clean(graph(build, (2, 6))))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda emit, scores: emit(op.add(scores, relax.const(CAUSAL[:, ::-1].copy(), "float32"))),
        lambda emit, scores: emit(op.multiply(scores, scalar(-1))),
    ],
    ids=["two masks", "a negative scale"],
)
def test_masks_that_together_may_take_a_row_keep_the_test(spoil: Build) -> None:
    def build(emit: Any, x: Any, y: Any) -> Any:
        scores = spoil(emit, emit(op.add(emit(op.matmul(x, y)), relax.const(CAUSAL, "float32"))))
        softmax = emit(op.nn.softmax(scores, -1))
        return emit(op.where(emit(op.isnan(softmax)), scalar(0), softmax))

    assert "where" in operators(clean(graph(build, *SHAPES)))
