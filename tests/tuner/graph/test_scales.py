"""Scales of a product's operands become one behind it; TVM without our passes is the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tests.tuner.graph.graphs import drawn, graph, operators, run
from tuner.graph import clean

op = relax.op
SCALE = relax.const(np.float32(0.35), "float32")


def queries_and_keys(emit: Any, q: Any, k: Any) -> Any:
    """As PyTorch exports the scores of its attention; [5, 2, 8] and [7, 2, 8], that is tokens, heads, elements."""
    queries = emit(op.multiply(emit(op.permute_dims(q, [1, 0, 2])), SCALE))
    keys = emit(op.permute_dims(emit(op.multiply(SCALE, emit(op.permute_dims(k, [1, 0, 2])))), [0, 2, 1]))
    return emit(op.matmul(emit(op.reshape(queries, (2, 5, 8))), keys))


def one_side(emit: Any, q: Any, k: Any) -> Any:
    keys = emit(op.multiply(emit(op.permute_dims(k, [1, 2, 0])), SCALE))
    return emit(op.matmul(emit(op.permute_dims(q, [1, 0, 2])), keys))


def a_vector(emit: Any, q: Any, k: Any) -> Any:
    keys = emit(
        op.multiply(emit(op.permute_dims(k, [1, 2, 0])), relax.const(np.arange(7, dtype=np.float32), "float32"))
    )
    return emit(op.matmul(emit(op.permute_dims(q, [1, 0, 2])), keys))


@pytest.mark.parametrize(
    ("build", "left"),
    [
        (queries_and_keys, ["permute_dims", "permute_dims", "matmul", "multiply"]),
        (one_side, ["permute_dims", "permute_dims", "matmul", "multiply"]),
        (a_vector, ["permute_dims", "multiply", "permute_dims", "matmul"]),
    ],
)
def test_scalars_follow_the_product(build: Callable[..., Any], left: list[str]) -> None:
    shapes = ((5, 2, 8), (7, 2, 8))
    module = graph(build, *shapes)
    cleaned = clean(module)
    assert operators(cleaned) == left
    inputs = drawn(*shapes)
    np.testing.assert_allclose(run(cleaned, *inputs), run(module, *inputs), rtol=1e-5, atol=1e-6)


def test_half_precision_stays_scaled() -> None:
    def build(emit: Any, q: Any, k: Any) -> Any:
        return emit(op.matmul(emit(op.multiply(q, relax.const(np.float16(0.35), "float16"))), k))

    assert operators(clean(graph(build, (2, 5, 8), (2, 8, 7), dtype="float16"))) == ["multiply", "matmul"]
