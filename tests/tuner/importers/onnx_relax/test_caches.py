"""Caches of keys and values, and the attention that reads them, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, by_converter, by_runtime, one_node
from tests.tuner.importers.onnx_relax.running import check as compared

RNG = np.random.default_rng(7)
MS = "com.microsoft"


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_writing_into_a_cache(mode: str) -> None:
    begins = np.array([1, 3]) if mode == "circular" else np.array([0, 2])
    compared("TensorScatter", [values(2, 3, 4, 5), values(2, 3, 2, 5), begins], opset=24, mode=mode)
    compared("TensorScatter", [values(2, 4, 3), values(2, 2, 3)], opset=24, mode=mode)


def _attention(length: int, past: int, total: int, valid: list[int], **attributes: Any) -> None:
    """Four heads of queries for two of keys; ONNX Runtime leaves open what lies behind the valid tokens."""
    batch, size = len(valid), 16  # what ONNX Runtime turns in pairs
    angles = [values(16, size // 2), values(16, size // 2)] if attributes.get("do_rotary") else [None, None]
    caches = [values(batch, 2, past, size), values(batch, 2, past, size)] if past else [None, None]
    model, feeds = one_node(
        "GroupQueryAttention",
        [values(batch, length, 4 * size), values(batch, length, 2 * size), values(batch, length, 2 * size), *caches,
         np.array(valid, np.int32) - 1, np.array(total, np.int32), *angles],
        (6, 7, 8) if angles[0] is not None else (6,), 3, domain=MS, num_heads=4, kv_num_heads=2, **attributes,
    )  # fmt: skip
    made, expected = by_converter(model, feeds), by_runtime(model, feeds)
    for index, count in enumerate(valid):
        tokens = min(length, count) if length == total else length
        np.testing.assert_allclose(made[0][index, :tokens], expected[0][index, :tokens], rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(made[1:], expected[1:], strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours[index, :, :count], theirs[index, :, :count], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attributes", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1, "scale": 0.3}])
def test_a_step_after_a_cache(attributes: dict[str, Any]) -> None:
    _attention(1, 5, 6, [6, 6], **attributes)


def test_a_prompt_a_window_and_a_cap() -> None:
    _attention(5, 0, 5, [5, 3], do_rotary=1)
    _attention(5, 0, 5, [5, 5], local_window_size=2, softcap=3.0)


def test_queries_keys_and_values_in_one_tensor() -> None:
    packed = values(1, 3, 8 * 8)
    given = [packed, None, None, None, None, np.array([2], np.int32), np.array(3, np.int32)]
    model, feeds = one_node("GroupQueryAttention", given, (6,), 3, domain=MS, num_heads=4, kv_num_heads=2)
    for ours, theirs in zip(by_converter(model, feeds), by_runtime(model, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
