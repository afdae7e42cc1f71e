"""Operators on elements, reductions and norms against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.tuner.importers.onnx_relax.running import Value, by_converter, check, one_node
from tuner.errors import ModelError
from tuner.importers.onnx_relax.importer import to_relax

RNG = np.random.default_rng(2)


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> Value:
    return np.array(numbers, np.int64)


def test_remainders() -> None:
    numbers, divisors = ints(-7, -3, 0, 5, 8), ints(3, -2, 4, -5, 3)
    check("Mod", [numbers, divisors])
    check("Mod", [numbers, divisors], fmod=1)
    check("Mod", [values(3, 5) * 9, values(5)], fmod=1)


def test_remainders_of_floats_have_the_divisors_sign() -> None:
    model, feeds = one_node("Mod", [values(40) * 9, values(40)], opset=13)
    made = by_converter(model, feeds)[0]
    np.testing.assert_allclose(made, np.mod(*feeds.values()), rtol=1e-5, atol=1e-5)


def test_powers_of_other_dtypes() -> None:
    check("Pow", [ints(2, -3, 5), np.array([2.0, 3.0, 0.5], np.float32)])
    check("Pow", [values(3), ints(2, 3, 0)])
    check("Pow", [ints(2, -3, 7), ints(5, 3, 2)])


def test_infinities_of_one_sign() -> None:
    numbers = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    check("IsInf", [numbers])
    check("IsInf", [numbers], detect_negative=0)
    check("IsInf", [numbers], detect_positive=0)


def test_shifts_by_more_bits_than_there_are() -> None:
    numbers, amounts = np.array([200, 3, 77], np.uint8), np.array([1, 3, 7], np.uint8)
    for direction in ("LEFT", "RIGHT"):
        check("BitShift", [numbers, amounts], direction=direction)


def test_one_hot_of_computed_values() -> None:
    check("OneHot", [ints(0, -1, 7, 2), np.array(5), values(2)], (1,), axis=0)


def test_eye_of_another_dtype() -> None:
    check("EyeLike", [values(3, 5)], k=-1, dtype=onnx.TensorProto.INT32)


def test_parts_of_which_one_is_empty() -> None:
    check("Split", [values(2, 7), ints(3, 0, 4)], (1,), 3, axis=1)
    check("Split", [values(7, 2)], (), 3, opset=18, num_outputs=3)


def test_space_to_depth() -> None:
    check("SpaceToDepth", [values(2, 3, 4, 6)], blocksize=2)


@pytest.mark.parametrize("operator", ["BiasGelu", "FastGelu", "QuickGelu", "Gelu"])
def test_activations_of_onnx_runtime(operator: str) -> None:
    bias = [values(6)] if operator in ("BiasGelu", "FastGelu") else []
    check(operator, [values(3, 6), *bias], domain="com.microsoft")


def test_standard_activations() -> None:
    check("Gelu", [values(3, 6)], opset=20)
    check("Gelu", [values(3, 6)], opset=20, approximate="tanh")
    check("Celu", [values(3, 6)], alpha=0.7)


KINDS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


@pytest.mark.parametrize("kind", KINDS)
def test_reductions(kind: str) -> None:
    numbers = np.abs(values(3, 4, 5)) + 0.1
    check(f"Reduce{kind}", [numbers, ints(0, -1)], (1,), opset=18, keepdims=0)
    check(f"Reduce{kind}", [numbers], opset=18)


def test_reductions_of_integers_and_bools() -> None:
    numbers = RNG.integers(-9, 9, (4, 5))
    for kind in ("Max", "Min", "Sum", "Prod"):
        check(f"Reduce{kind}", [numbers, ints(1)], (1,), opset=20)
    model, feeds = one_node("ReduceMax", [numbers > 5, ints(1)], (1,), opset=20)
    np.testing.assert_array_equal(by_converter(model, feeds)[0], (numbers > 5).any(axis=1, keepdims=True))


@pytest.mark.parametrize("kind", ["Sum", "Prod", "Max", "LogSum"])
def test_reductions_of_nothing(kind: str) -> None:
    model, feeds = one_node(f"Reduce{kind}", [values(2, 0, 3), ints(1)], (1,), opset=20)
    right = {"Sum": 0, "Prod": 1}.get(kind, -np.inf)
    np.testing.assert_array_equal(by_converter(model, feeds)[0], np.full((2, 1, 3), right, np.float32))


def test_no_axes_may_mean_none() -> None:
    check("ReduceSum", [values(3, 4), np.zeros(0, np.int64)], (1,), opset=18, noop_with_empty_axes=1)


def test_norms_of_vectors() -> None:
    check("LpNormalization", [values(3, 4)], p=1, axis=0)
    check("LpNormalization", [values(3, 4)])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_layer_norms_with_their_statistics(axis: int) -> None:
    shape = (2, 3, 5)
    check("LayerNormalization", [values(*shape), values(*shape[axis:]), values(*shape[axis:])], (1, 2), 3, axis=axis)


@pytest.mark.parametrize("axis", [0, 2])
def test_root_mean_square_norms(axis: int) -> None:
    shape = (2, 3, 5)
    check("RMSNormalization", [values(*shape), values(*shape[axis:])], (1,), opset=23, axis=axis)


def test_group_norms() -> None:
    check("GroupNormalization", [values(2, 6, 5), values(6), values(6)], (1, 2), opset=21, num_groups=3)


def test_norms_of_sums() -> None:
    inputs: list[Any] = [values(2, 3, 8), values(2, 3, 8), values(8), values(8), values(8)]
    attributes: dict[str, Any] = {"domain": "com.microsoft", "epsilon": 1e-5}
    check("SkipLayerNormalization", inputs, (2, 3, 4), **attributes)
    check("SkipSimplifiedLayerNormalization", inputs[:4], (2, 3), **attributes)


def test_embeddings() -> None:
    ids, kinds = RNG.integers(0, 11, (2, 5)).astype(np.int32), RNG.integers(0, 2, (2, 5)).astype(np.int32)
    tables = [values(11, 8), values(7, 8), values(2, 8)]
    check(
        "EmbedLayerNormalization", [ids, kinds, *tables, values(8), values(8)], (2, 3, 4, 5, 6), 2,
        domain="com.microsoft",
    )  # fmt: skip


def test_what_depends_on_the_data_is_refused_by_name() -> None:
    model, _ = one_node("NonMaxSuppression", [values(1, 4, 4), values(1, 2, 4)], opset=11)
    with pytest.raises(
        ModelError, match=r"operator NonMaxSuppression of the node that makes 'y0': .*depends on the data"
    ):
        to_relax(model, "one")


def test_truth_values_are_equal_or_not() -> None:
    check("Equal", [np.array([[True], [False]]), np.array([True, False, True])])
    check("Equal", [np.array([1, 2]), np.array([1, 3])])
