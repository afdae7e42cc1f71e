"""TVM's default schedules for a GPU: every loop on threads, and the program they are made of left as it was."""

from __future__ import annotations

import pytest
import tvm
from tvm import te, topi
from tvm.target import Target

from kernels.default_gpu import default_schedule
from kernels.space import TraceApplier, generate
from tests.tuner.devices.test_builder import matmul

TARGET = Target({"tag": "nvidia/nvidia-h100"})


def test_the_module_that_is_given_stays_unscheduled() -> None:
    """A build worker makes all candidates of a task from one module; the untuned program is the first of them."""
    workload = matmul()
    space = generate(workload, TARGET, [])
    applier = TraceApplier(workload, space, TARGET)
    before = applier.module.script()
    scheduled = default_schedule(applier.apply(space.default()).mod, TARGET)
    assert 'thread="threadIdx.x"' in scheduled.script()
    assert applier.module.script() == before
    assert applier.apply(space.initial_candidates(1)[0]).mod["main"]


def test_code_for_a_cpu_is_refused_by_its_name() -> None:
    """TVM's own pass raises that None is not iterable."""
    table, indices = te.placeholder((4,), name="table"), te.placeholder((4,), "int64", name="indices")
    scattered = topi.scatter_elements(table, indices, table, 0, "update")
    function = te.create_prim_func([table, indices, scattered])
    with pytest.raises(ValueError, match="scatter_elements_generic is written for CPUs"):
        default_schedule(tvm.IRModule({"scatter": function}), TARGET)
