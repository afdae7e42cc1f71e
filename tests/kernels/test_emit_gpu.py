"""CUDA kernels are emitted and compiled, and their resource usage read, without a GPU."""

from __future__ import annotations

import json
import re

import pytest
import tvm
from tvm import te, topi

from kernels import emit_gpu
from kernels.emit_gpu import EmitFailed
from kernels.launch_plan import Argument, Launch, LaunchPlan
from tests.kernels.cuda_programs import bound_matmul, cuda, softmax_of_matmul


def signature(source: str, kernel: str) -> list[str]:
    """The names of the buffers that a kernel takes, in order."""
    [parameters] = re.findall(rf"{kernel}\(([^)]*)\) {{", source)
    return re.findall(r"(\w+)_ptr", parameters)


def test_one_kernel_and_its_launch() -> None:
    program = emit_gpu.emit(bound_matmul(), cuda("sm_90a"))
    [launch] = program.plan.launches
    assert launch == Launch("main_kernel", launch.args, (4, 4, 1), (16, 16, 1), static_shared_bytes=2 * 16 * 16 * 4)
    assert [("a", "b", "T_matmul_NN")[slot] for slot in launch.args] == signature(program.source, launch.kernel)
    assert program.plan.arguments == (Argument((64, 64), "float32"),) * 3
    assert program.plan.workspaces == ()


def test_the_source_is_what_tvm_compiles() -> None:
    module, target = softmax_of_matmul(), cuda("sm_80")
    assert emit_gpu.emit(module, target).source == tvm.compile(module, target).mod.imports[0].inspect_source()


def test_several_kernels_share_workspaces() -> None:
    program = emit_gpu.emit(softmax_of_matmul(), cuda("sm_80"))
    plan = program.plan
    assert len(plan.launches) > 1
    assert 96 * 80 * 4 in plan.workspaces, "the product stays allocated between the kernels"
    assert {0, 1} <= set(plan.launches[0].args), "the first kernel reads the inputs"
    assert 2 in plan.launches[-1].args, "the last kernel writes the output"
    slots = {slot for launch in plan.launches for slot in launch.args}
    assert slots == set(range(plan.num_args + len(plan.workspaces))), "everything allocated is used"
    for launch in plan.launches:
        assert len(signature(program.source, launch.kernel)) == len(launch.args)
    assert LaunchPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_dynamic_shared_memory_is_part_of_the_launch() -> None:
    [launch] = emit_gpu.emit(bound_matmul(scope="shared.dyn"), cuda("sm_80")).plan.launches
    assert launch.dynamic_shared_bytes == 2 * 16 * 16 * 4


def test_a_schedule_without_threads_is_rejected() -> None:
    a = te.placeholder((64,), name="a")
    module = tvm.IRModule({"main": te.create_prim_func([a, topi.tanh(a)])})
    with pytest.raises(EmitFailed):
        emit_gpu.emit(module, cuda("sm_80"))
