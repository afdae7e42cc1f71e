"""Sorts and scans become kernels, and constants keep their dtype; numpy is the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.target import Target

from tests.tuner.graph.graphs import TARGET, graph
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, clean, lower

DATA = np.random.default_rng(0).permutation(24).reshape(4, 6).astype(np.float32)

CASES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "sort": (lambda x: relax.op.sort(x, 1), np.sort(DATA, 1)),
    "descending sort": (lambda x: relax.op.sort(x, 0, descending=True), np.sort(DATA, 0)[::-1]),
    "argsort": (lambda x: relax.op.argsort(x, 1, dtype="int64"), np.argsort(DATA, 1)),
    "top-k": (lambda x: relax.op.topk(x, 2, 1, "values"), np.sort(DATA, 1)[:, ::-1][:, :2]),
    "cumulative sum": (lambda x: relax.op.cumsum(x, 1), DATA.cumsum(1)),
    "cumulative product": (lambda x: relax.op.cumprod(x, 0), DATA.cumprod(0)),
}


@pytest.mark.parametrize("name", CASES)
def test_sorts_and_scans_are_compiled(name: str) -> None:
    build, expected = CASES[name]
    target = Target(TARGET)
    lowered = lower(clean(graph(lambda emit, x: emit(build(x)), DATA.shape)), GraphConfig(), target)
    machine = relax.VirtualMachine(assemble(lowered, {}, target), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(DATA)).numpy(), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_bias_folded_into_a_convolution_keeps_its_dtype(dtype: str) -> None:
    weight = relax.const(np.ones((4, 3, 3, 3), dtype), dtype)
    shift = relax.const(np.full((1, 4, 1, 1), 0.1, dtype), dtype)

    def build(emit: Any, x: Any) -> Any:
        return emit(relax.op.add(emit(relax.op.nn.conv2d(x, weight)), shift))

    cleaned = clean(graph(build, (1, 3, 8, 8), dtype=dtype))
    assert str(cleaned["main"].ret_ty.dtype) == dtype
    assert f'dtype="{dtype}"' in str(cleaned["main"].ret_ty)
