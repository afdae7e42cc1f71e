"""Layers by themselves: which are alike, and which kernel is theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.target import Target

from tests.tuner.graph.graphs import TARGET, graph
from tuner.commands import layer_times
from tuner.graph import GraphConfig, clean, lower
from tuner.graph.layers import layer_calls
from tuner.graph.single_layers import alike, kernels_of, single_layers

RNG = np.random.default_rng(0)


def _build(emit: Any, x: Any) -> Any:
    for shape in ((8, 16), (16, 16), (16, 16), (16, 4)):
        weight = relax.const(RNG.standard_normal(shape).astype(np.float32))
        x = emit(relax.op.nn.relu(emit(relax.op.matmul(x, weight))))
    return x


def test_layers_that_differ_in_their_weights_alone_are_timed_once() -> None:
    assert alike(layer_calls(clean(graph(_build, (5, 8))))) == [0, 1, 1, 3]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_each_layer_has_a_kernel_of_its_own(precision: str) -> None:
    calls = layer_calls(clean(graph(_build, (5, 8))))
    lowered = lower(single_layers([calls[0], calls[1], calls[3]], precision), GraphConfig(), Target(TARGET))
    keys = kernels_of(lowered)
    names = {task.key: task.name for task in lowered.tasks}
    assert [names[key].removesuffix("_dequantize") for key in keys] == [
        "matmul_5x8_by_8x16", "matmul_5x16_by_16x16", "matmul_5x16_by_16x4"
    ]  # fmt: skip
    assert layer_times.LEAST_S > 0
