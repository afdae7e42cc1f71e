"""Root mean square norms that were exported operator by operator become one operator, and nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from tests.tuner.graph.graphs import drawn, graph, operators, run
from tuner.graph import clean

op = relax.op
SCALE = np.linspace(0.5, 2, 16).astype(np.float32)


def norm(emit: Any, x: Any, squared: Any, axis: int = -1, flipped: bool = False, epsilon: float = 1e-5) -> Any:
    """x / sqrt(mean(squared^2) + epsilon) * SCALE as frameworks write it."""
    squares = emit(op.power(squared, relax.const(2.0, "float32")))
    mean = emit(op.mean(squares, [axis], keepdims=True))
    inverse = emit(op.rsqrt(emit(op.add(mean, relax.const(epsilon, "float32")))))
    normal = emit(op.multiply(inverse, x) if flipped else op.multiply(x, inverse))
    scale = relax.const(SCALE, "float32")
    return emit(op.multiply(scale, normal) if flipped else op.multiply(normal, scale))


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_a_norm_is_one_operator(flipped: bool, epsilon: float) -> None:
    cleaned = clean(graph(lambda emit, x: norm(emit, x, x, flipped=flipped, epsilon=epsilon), (2, 5, 16)))
    assert operators(cleaned) == ["nn.rms_norm"]
    [x] = drawn((2, 5, 16))
    exact = x.astype(np.float64)
    exact = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + epsilon) * SCALE
    np.testing.assert_allclose(run(cleaned, x), exact, rtol=1e-5)


def test_what_looks_like_a_norm_stays() -> None:
    along_another_axis = graph(lambda emit, x: norm(emit, x, x, axis=1), (2, 5, 16))
    of_something_else = graph(norm, (2, 5, 16), (2, 5, 16))
    for module in (along_another_axis, of_something_else):
        assert "nn.rms_norm" not in operators(clean(module))
