"""The padded softmax is a softmax, and its kernel is made of vectors; numpy in double precision is the reference."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from scipy import special
from tvm import relax
from tvm.target import Target

from kernels.space import generate
from tests.tuner.graph.graphs import TARGET, graph
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, clean, lower


def softmax(*shape: int, axis: int = -1) -> tvm.IRModule:
    return graph(lambda emit, x: emit(relax.op.nn.softmax(x, axis)), shape)


@pytest.mark.parametrize("length", [33, 49, 197, 1001])
def test_uneven_rows_are_right(length: int) -> None:
    lowered = lower(clean(softmax(2, 3, length)), GraphConfig(), Target(TARGET))
    assert [task.name for task in lowered.tasks] == ["softmax"]
    x = np.random.default_rng(0).normal(0, 10, (2, 3, length)).astype(np.float32)
    x[0, 0, 5:] = -np.inf  # masked
    x[0, 1] -= 3e38
    x[0, 2] += 1e4
    machine = relax.VirtualMachine(assemble(lowered, {}, Target(TARGET)), tvm.cpu())
    output = machine["main"](tvm.runtime.tensor(x)).numpy()
    np.testing.assert_allclose(output, special.softmax(x.astype(np.float64), -1), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(
    ("shape", "axis", "padded"),
    [((4, 197), -1, True), ((4, 197), 1, True), ((4, 192), -1, False), ((4, 20), -1, False), ((197, 4), 0, False)],
)
def test_only_long_uneven_rows_are_padded(shape: tuple[int, ...], axis: int, padded: bool) -> None:
    [task] = lower(softmax(*shape, axis=axis), GraphConfig(), Target(TARGET)).tasks
    assert ("softmax_pad" in str(task.workload.module().script())) == padded


def test_padded_rows_have_the_sketch_of_rows() -> None:
    [task] = lower(softmax(6, 197), GraphConfig(), Target(TARGET)).tasks
    assert "rows" in {sketch.rule for sketch in generate(task.workload, Target(TARGET)).sketches}


def test_a_gpu_pads_nothing() -> None:
    [task] = lower(softmax(6, 197), GraphConfig(), Target({"kind": "cuda", "arch": "sm_80"})).tasks
    assert "softmax_pad" not in str(task.workload.module().script())
