"""Convolutions of bytes pad with their zero point by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.target import Target

from tests.tuner.graph.graphs import TARGET, graph, run
from tests.tuner.graph.test_integers import RNG, _dequantize, _quantize
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, clean, lower


@pytest.mark.parametrize("groups", [1, 4])
def test_no_kernel_copies_an_image_to_pad_it(groups: int) -> None:
    """Uneven padding by strides of two, read by a residual, too: exact, as TVM's own operators are."""
    weight = RNG.integers(-100, 100, (8, 4 // groups, 3, 3)).astype(np.int8)

    def build(emit: Any, x: Any) -> Any:
        filters = _dequantize(emit, relax.const(weight), np.full(8, 0.01), np.zeros(8), 0)
        real = _dequantize(emit, x, 0.1, 11)
        made = relax.op.nn.conv2d(real, filters, strides=2, padding=(0, 1, 2, 1), groups=groups)
        return _quantize(emit, emit(made), 0.7, 5)

    module = clean(graph(build, (1, 4, 8, 8), dtype="uint8"), "int8")
    lowered = lower(module, GraphConfig("NCHW"), Target(TARGET))
    assert [name.partition("_4x8x8")[0] for name in (task.name for task in lowered.tasks)] == [
        {1: "conv2d_3x3s2", 4: "conv2d_3x3s2g4"}[groups]
    ]
    assert lowered.tasks[0].workload.origin["padding"] == [0, 1, 2, 1]
    x = RNG.integers(0, 256, (1, 4, 8, 8)).astype(np.uint8)
    machine = relax.VirtualMachine(assemble(lowered, {}, Target(TARGET)), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(x)).numpy(), run(module, x))
