"""Attention and rotary embeddings, of the standard and of com.microsoft, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, by_converter, check, one_node

RNG = np.random.default_rng(3)
MS = "com.microsoft"


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


STANDARD: list[tuple[list[Any], dict[str, Any], int]] = [
    ([values(2, 4, 3, 8), values(2, 2, 5, 8), values(2, 2, 5, 6)], {"scale": 0.3}, 1),
    ([values(2, 3, 24), values(2, 5, 12), values(2, 5, 18)], {"q_num_heads": 4, "kv_num_heads": 2}, 1),
    ([values(2, 2, 5, 8), values(2, 2, 5, 8), values(2, 2, 5, 8)], {"is_causal": 1, "softcap": 2.0}, 1),
    ([values(2, 2, 3, 8), values(2, 2, 5, 8), values(2, 2, 5, 8), values(3, 5)], {"qk_matmul_output_mode": 2}, 4),
    ([values(2, 2, 3, 8), values(2, 2, 3, 8), values(2, 2, 3, 8), values(2, 1, 3, 7) > -0.5, values(2, 2, 4, 8),
      values(2, 2, 4, 8)], {"is_causal": 1}, 3),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "attributes", "outputs"), STANDARD)
def test_standard_attention(inputs: list[Any], attributes: dict[str, Any], outputs: int) -> None:
    check("Attention", inputs, (), outputs, opset=23, atol=1e-4, **attributes)


def test_a_query_that_may_see_nothing_gets_zeros() -> None:
    mask = np.array([[True, False], [False, False]])
    model, feeds = one_node("Attention", [values(1, 1, 2, 4), values(1, 1, 2, 4), values(1, 1, 2, 4), mask], opset=23)
    made = by_converter(model, feeds)[0]
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made[0, 0, 1], np.zeros(4))


def test_a_query_after_the_last_key_of_its_batch() -> None:
    """Of operator set 24: how many keys each batch has."""
    query, key, value = values(2, 1, 1, 4), values(2, 1, 5, 4), values(2, 1, 5, 4)
    model, feeds = one_node("Attention", [query, key, value, None, None, None, np.array([2, 5])], opset=24)
    scores = query @ key.transpose(0, 1, 3, 2) / 2
    scores[0, ..., 2:] = -np.inf
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(by_converter(model, feeds)[0], weights @ value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embeddings(interleaved: int) -> None:
    positions = RNG.integers(0, 9, (2, 3))
    angles = [values(9, 3), values(9, 3)]
    check("RotaryEmbedding", [values(2, 4, 3, 6), *angles, positions], (1, 2), opset=23, interleaved=interleaved)
    check(
        "RotaryEmbedding", [values(2, 3, 32), *angles, positions], (1, 2), opset=23, interleaved=interleaved,
        num_heads=4, rotary_embedding_dim=6,
    )  # fmt: skip
    check("RotaryEmbedding", [values(2, 3, 24), positions, *angles], (2, 3), domain=MS, interleaved=interleaved)
    check("RotaryEmbedding", [values(2, 4, 3, 6), np.array([4]), *angles], (2, 3), domain=MS, interleaved=interleaved)


def test_attention_with_its_projections() -> None:
    data, weights, bias = values(2, 5, 8), values(8, 24), values(24)
    for mask in (None, np.array([5, 3], np.int32), np.array([[1, 1, 0, 1, 1], [1, 1, 1, 0, 0]], np.int32)):
        check("Attention", [data, weights, bias, mask], (1, 2), domain=MS, num_heads=2, atol=1e-4)
    check("Attention", [data, weights, bias], (1, 2), domain=MS, num_heads=2, unidirectional=1, atol=1e-4)


def test_multi_head_attention() -> None:
    inputs: list[Any] = [values(2, 3, 8), values(2, 5, 8), values(2, 5, 8), values(24)]
    check("MultiHeadAttention", inputs, (3,), domain=MS, num_heads=2, atol=1e-4)
    check("MultiHeadAttention", [*inputs, None, values(1, 2, 3, 5)], (3,), domain=MS, num_heads=2, atol=1e-4)
