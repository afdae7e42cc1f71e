"""TVM's default schedules for a GPU: every loop on threads, and the program they are made of left as it was."""

from __future__ import annotations

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
