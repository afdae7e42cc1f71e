"""Layers in float16 and bfloat16: what is converted where, and that sums are in float32."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tvm import relax

from tests.tuner.graph.graphs import Array, drawn, graph, operators, run
from tuner.graph import clean
from tuner.graph.layers import layers
from tuner.graph.narrow import narrowed

RNG = np.random.default_rng(1)
WEIGHT = RNG.standard_normal((64, 64)).astype(np.float32)
FILTERS = RNG.standard_normal((16, 8, 3, 3)).astype(np.float32)


def _rounded(array: Array, dtype: Any = ml_dtypes.bfloat16) -> Array:
    return array.astype(dtype).astype(np.float32)


def in_bfloat16(module: Any, kept: Collection[int] = ()) -> Any:
    return narrowed(module, {layer.number: "bfloat16" for layer in layers(module) if layer.number not in kept})


def _two_products(emit: Any, x: Any) -> Any:
    """A residual around two products."""
    first = emit(relax.op.nn.relu(emit(relax.op.matmul(x, relax.const(WEIGHT)))))
    second = emit(relax.op.matmul(first, relax.const(WEIGHT)))
    return emit(relax.op.add(second, first))


@pytest.mark.parametrize(("dtype", "type_"), [("bfloat16", ml_dtypes.bfloat16), ("float16", np.float16)])
def test_operands_are_rounded_once_and_sums_are_in_float32(dtype: str, type_: Any) -> None:
    module = narrowed(clean(graph(lambda emit, x: emit(relax.op.matmul(x, relax.const(WEIGHT))), (7, 64))), {0: dtype})
    [x] = drawn((7, 64))
    right = _rounded(x, type_).astype(np.float64) @ _rounded(WEIGHT, type_).astype(np.float64)
    np.testing.assert_allclose(run(module, x), right, rtol=1e-4, atol=1e-4)  # far below a rounding to bfloat16


def test_convolutions_too_but_for_depthwise_ones() -> None:
    depthwise = RNG.standard_normal((16, 1, 3, 3)).astype(np.float32)

    def build(emit: Any, x: Any) -> Any:
        x = emit(relax.op.nn.conv2d(x, relax.const(FILTERS), padding=1))
        return emit(relax.op.nn.conv2d(x, relax.const(depthwise), padding=1, groups=16))

    cleaned = clean(graph(build, (1, 8, 9, 9)))
    assert [layer.name for layer in layers(cleaned)] == ["conv2d_3x3 8x9x9 to 16"]
    narrow = in_bfloat16(cleaned)
    assert operators(narrow) == ["astype", "nn.conv2d", "nn.conv2d"]


def test_what_layers_and_sums_alone_read_is_stored_narrow() -> None:
    """The residual reads the stored bfloat16, widened; the output stays in float32."""
    narrow = in_bfloat16(clean(graph(_two_products, (7, 64))))
    assert operators(narrow) == ["astype", "matmul", "nn.relu", "astype", "matmul", "astype", "add"]
    [x] = drawn((7, 64))
    hidden = _rounded(np.maximum(_rounded(x) @ _rounded(WEIGHT), 0))
    np.testing.assert_allclose(run(narrow, x), hidden @ _rounded(WEIGHT) + hidden, rtol=1e-3, atol=1e-2)


def test_what_a_norm_reads_stays_whole() -> None:
    ones = relax.const(np.ones(64, np.float32))

    def build(emit: Any, x: Any) -> Any:
        first = emit(relax.op.matmul(x, relax.const(WEIGHT)))
        normed = emit(relax.op.nn.layer_norm(first, ones, ones, [-1]))
        return emit(relax.op.add(emit(relax.op.matmul(first, relax.const(WEIGHT))), normed))

    made = operators(in_bfloat16(clean(graph(build, (7, 64)))))
    assert made.index("nn.layer_norm") < made.index("astype", 1) + 1
    assert made.count("astype") == 2  # both operands of products; the norm reads what was computed


def test_kept_layers_stay_in_float32() -> None:
    cleaned = clean(graph(_two_products, (7, 64)))
    assert len(layers(cleaned)) == 2
    assert operators(in_bfloat16(cleaned, {0, 1})) == operators(cleaned)
    one = in_bfloat16(cleaned, {0})
    assert len(layers(one)) == 1 and operators(one).count("matmul") == 2


def test_layers_of_several_types_convert_what_they_read_for_themselves() -> None:
    cleaned = clean(graph(_two_products, (7, 64)))
    made = narrowed(cleaned, {0: "float16", 1: "bfloat16"})
    assert operators(made) == ["astype", "matmul", "nn.relu", "astype", "matmul", "astype", "add"]  # hidden in bfloat16
    [x] = drawn((7, 64))
    hidden = _rounded(np.maximum(_rounded(x, np.float16) @ _rounded(WEIGHT, np.float16), 0))
    np.testing.assert_allclose(run(made, x), hidden @ _rounded(WEIGHT) + hidden, rtol=1e-3, atol=1e-2)

    def build(emit: Any, x: Any) -> Any:
        y = emit(relax.op.nn.relu(x))
        return emit(relax.op.add(*[emit(relax.op.matmul(y, relax.const(WEIGHT * n))) for n in (1, 2)]))

    both = narrowed(clean(graph(build, (7, 64))), {0: "float16", 1: "bfloat16"})
    assert operators(both)[:3] == ["nn.relu", "astype", "matmul"] and operators(both).count("astype") == 2


def test_a_value_read_through_a_reshape_is_converted_before_it() -> None:
    def build(emit: Any, x: Any) -> Any:
        y = emit(relax.op.nn.relu(x))
        return emit(relax.op.matmul(emit(relax.op.reshape(y, (6, 64))), relax.const(WEIGHT)))

    assert operators(in_bfloat16(clean(graph(build, (2, 3, 64))))) == ["nn.relu", "astype", "reshape", "matmul"]


def test_integers_and_products_of_two_variables_are_left_alone() -> None:
    def build(emit: Any, a: Any, b: Any) -> Any:
        return emit(relax.op.matmul(a, b))

    cleaned = clean(graph(build, (4, 8), (8, 4)))
    assert layers(cleaned) == [] and operators(in_bfloat16(cleaned)) == ["matmul"]
