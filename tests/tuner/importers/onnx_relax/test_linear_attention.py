"""Linear attention and the causal convolution, against the reference that `onnx` ships and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from tests.tuner.importers.onnx_relax.running import Value, by_converter, check, one_node

RNG = np.random.default_rng(8)


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


RULES = ["linear", "gated", "delta", "gated_delta"]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_with_a_past(rule: str) -> None:
    batch, steps, heads, shared, keys, sizes = 2, 3, 4, 2, 5, 6
    decay = -np.abs(values(batch, steps, shared * keys)) if "gated" in rule else None
    beta = 1 / (1 + np.exp(values(batch, steps, shared))) if "delta" in rule else None
    given: list[Any] = [
        values(batch, steps, heads * keys), values(batch, steps, shared * keys), values(batch, steps, shared * sizes),
        values(batch, shared, keys, sizes), decay, beta,
    ]  # fmt: skip
    model, feeds = one_node(
        "LinearAttention", given, (), 2, opset=27, update_rule=rule, q_num_heads=heads, kv_num_heads=shared
    )
    model.ir_version = 13
    for made, right in zip(by_converter(model, feeds), ReferenceEvaluator(model).run(None, feeds), strict=True):
        np.testing.assert_allclose(made, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("past", [False, True])
def test_causal_convolution(past: bool) -> None:
    given = [values(2, 3, 2), values(3, 1, 4), values(3), values(2, 3, 3) if past else None]
    model, feeds = one_node("CausalConvWithState", given, (), 2, opset=27, activation="silu")
    model.ir_version = 13
    for made, right in zip(by_converter(model, feeds), ReferenceEvaluator(model).run(None, feeds), strict=True):
        np.testing.assert_allclose(made, right, rtol=1e-4, atol=1e-5)


def test_elu_of_half_precision_does_not_overflow() -> None:
    check("Elu", [np.array([-90.0, -1.0, 0.0, 100.0], np.float32)], alpha=1.5)
    model, feeds = one_node("Elu", [np.array([-90.0, -1.0, 0.0, 60000.0], np.float16)], alpha=1.5)
    np.testing.assert_allclose(by_converter(model, feeds)[0], [-1.5, 1.5 * np.expm1(-1), 0.0, 60000.0], rtol=1e-3)
