"""Calls of constants become constants, whatever the operator; numpy is the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tests.tuner.graph.graphs import graph, operators
from tuner.graph import clean

POSITIONS = np.arange(12).reshape(3, 4)
REALS = np.linspace(-2, 3, 12).reshape(3, 4).astype(np.float32)


def constant(array: Any) -> Any:
    return relax.const(np.asarray(array), str(np.asarray(array).dtype))


CASES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "arange": (lambda emit: relax.op.arange(0, 6, 2, "int64"), np.arange(0, 6, 2)),
    "full": (lambda emit: relax.op.full((2, 3), relax.const(1.5, "float32"), "float32"), np.full((2, 3), 1.5)),
    "transpose": (lambda emit: relax.op.permute_dims(constant(REALS), [1, 0]), REALS.T),
    "transpose without axes": (lambda emit: relax.op.permute_dims(constant(REALS)), REALS.T),
    "reshape": (lambda emit: relax.op.reshape(constant(POSITIONS), (2, 6)), POSITIONS.reshape(2, 6)),
    "concat": (lambda emit: relax.op.concat([constant(REALS), constant(REALS)], 1), np.hstack([REALS, REALS])),
    "slice": (lambda emit: relax.op.strided_slice(constant(POSITIONS), [1], [1], [3]), POSITIONS[:, 1:3]),
    "where": (
        lambda emit: relax.op.where(
            emit(relax.op.less_equal(constant(POSITIONS), relax.const(5, "int64"))),
            relax.const(0.0, "float32"),
            relax.const(-np.inf, "float32"),
        ),
        np.where(POSITIONS <= 5, 0, -np.inf),
    ),
    "cosine": (lambda emit: relax.op.cos(constant(REALS)), np.cos(REALS.astype(np.float64)).astype(np.float32)),
    "mean": (lambda emit: relax.op.mean(constant(REALS), [1]), REALS.astype(np.float64).mean(1).astype(np.float32)),
    "cumulative sum": (lambda emit: relax.op.cumsum(constant(POSITIONS), 1), POSITIONS.cumsum(1)),
    "index": (
        lambda emit: relax.op.index_tensor(constant(REALS), [constant([[2], [0]]), constant([[3, 1]])]),
        REALS[[[2], [0]], [[3, 1]]],
    ),
    "cast": (lambda emit: relax.op.astype(constant(POSITIONS), "float16"), POSITIONS.astype(np.float16)),
}


@pytest.mark.parametrize("name", CASES)
def test_operators_on_constants_are_evaluated(name: str) -> None:
    build, expected = CASES[name]
    cleaned = clean(graph(lambda emit: emit(build(emit))))
    assert operators(cleaned) == []
    value = cleaned["main"].body.body.value.numpy()
    np.testing.assert_array_equal(value, expected)


def test_what_reads_an_input_or_grows_too_large_stays() -> None:
    assert operators(clean(graph(lambda emit, x: emit(relax.op.cos(x)), (3, 4)))) == ["cos"]
    large = graph(lambda emit: emit(relax.op.broadcast_to(constant(REALS), (1 << 20, 3, 4))))
    assert operators(clean(large)) == ["broadcast_to"]
