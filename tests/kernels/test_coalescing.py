"""Launches are rewritten to need fewer transactions only where that is shown to be the same program, and executed by
PoCL it is. experiments/gpu_passes runs hundreds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
import tvm.script
from tvm import te
from tvm.s_tir import SBlock, SBlockRealize, Schedule

from kernels import examples
from kernels.access import analyze
from kernels.coalescing import Nest, Refused, coalesced, nests, reuses
from kernels.coalescing.nests import with_statements
from kernels.opencl import emit_opencl
from kernels.serial import run_serial, serial
from kernels.space import Candidate
from kernels.tensors import TensorSpec, seeded_inputs
from kernels.workload import from_prim_func
from tests.kernels.coalescing_programs import bound, program
from tests.kernels.opencl_ground import GROUND, TARGET, Case, Ground, without_barrier
from tests.kernels.test_opencl_ground import ground  # noqa: F401 - a fixture


def case(function: Any, scheduled: Any) -> Case:
    module = tvm.IRModule({"main": scheduled})
    return Case(from_prim_func(function, "program"), Candidate(-1), emit_opencl(module, TARGET))


def sectors(function: Any) -> int:
    return sum(launch.total("global", "transactions") for launch in analyze(tvm.IRModule({"main": function}), TARGET))


@pytest.mark.parametrize("seed", [4, 7, 32])  # tiles, staged operands, registers
def test_random_programs_are_right(seed: int, ground: Ground) -> None:  # noqa: F811
    function, _ = program(seed)
    scheduled = bound(function, seed)
    rewritten, [made] = coalesced(scheduled)
    assert made.plan
    assert sectors(rewritten) < sectors(scheduled)
    assert ground.wrong(case(function, rewritten)) == ""


@pytest.mark.parametrize("seed", range(43, 47))
def test_rewritten_programs_compute_the_same_bits(seed: int) -> None:
    """As programs of one CPU thread: each element by the same operations in the same order."""
    function, _ = program(seed)
    scheduled = bound(function, seed)
    rewritten, _ = coalesced(scheduled)
    specs = [TensorSpec(tuple(map(int, p.shape)), str(p.dtype)) for p in function.params]
    modules = {name: serial(tvm.IRModule({"main": f})) for name, f in (("before", scheduled), ("after", rewritten))}
    outputs = run_serial(modules, seeded_inputs(tuple(specs[:-1]), seed), specs[-1:])
    np.testing.assert_array_equal(outputs["before"][0], outputs["after"][0])


def test_a_missing_barrier_is_seen(ground: Ground) -> None:  # noqa: F811
    function, _ = program(4)
    rewritten, [made] = coalesced(bound(function, 4))
    assert "staged" in made.plan
    right = case(function, rewritten)
    sabotaged = without_barrier(right.program, 0)
    assert sabotaged is not None
    assert ground.wrong(right, sabotaged)


def test_a_pass_that_exchanges_iterations_is_seen(ground: Ground) -> None:  # noqa: F811
    """A sabotaged copy of the pass: the block's own loops with two of them exchanged."""
    function = te.create_prim_func(
        [a := te.placeholder((32, 32), name="a"), te.compute(a.shape, lambda i, j: a[i, j] * 2)]
    )
    schedule = Schedule(function)
    [block] = schedule.get_child_blocks(schedule.get_sblock("root"))
    schedule.bind(schedule.get_loops(block)[0], "threadIdx.x")
    [(_, nest, _)] = nests(schedule.mod["main"])
    assert isinstance(nest, Nest)
    i, j = (tvm.tirx.Var(name, "int64") for name in "ij")
    body = nest.block.body
    wrong = tvm.tirx.BufferStore(body.buffer, body.value, list(reversed(body.indices)))
    exchanged = SBlock(nest.block.iter_vars, nest.block.reads, nest.block.writes, nest.name, wrong)
    loops = tvm.tirx.For(j, 0, 32, tvm.tirx.ForKind.SERIAL, SBlockRealize([i, j], True, exchanged))
    sabotaged = Schedule(
        with_statements(schedule.mod["main"], {0: tvm.tirx.For(i, 0, 32, tvm.tirx.ForKind.SERIAL, loops)})
    )
    sabotaged.bind(sabotaged.get_loops(sabotaged.get_sblock(nest.name))[0], "threadIdx.x")
    assert "wrong" in ground.wrong(case(function, sabotaged.mod["main"]))


# --- what is refused ------------------------------------------------------------------------------------


def _launch(threads: int, value: str, loops: str, binding: str) -> Any:
    """A program that is one block in a loop of 64 threads, or of blocks: `value` written by each iteration."""
    init = "with T.init():\n                    out[v] = T.float32(0)" if "reduce" in binding else "T.reads(a[v, 0:8])"
    return tvm.script.from_source(f"""
@T.prim_func(s_tir=True)
def main(a: T.Buffer((64, 8), "float32"), out: T.Buffer((64,), "float32")) -> None:
    for i in T.thread_binding({threads}, thread="{"blockIdx.x" if "thread" in loops else "threadIdx.x"}"):
        for j in {loops}:
            with T.sblock("out"):
                {binding}
                {init}
                {value}
""")


_SUM = "out[v] = out[v] + a[v, k]"


@pytest.mark.parametrize(
    ("threads", "value", "loops", "binding", "reason"),
    [
        (128, "out[v] = a[v, 0]", "range(1)", "v = T.axis.spatial(64, i // 2)", "no bijection"),
        (32, "out[v] = a[v, 0]", "range(1)", "v = T.axis.spatial(64, i)", "no bijection"),
        (63, "out[v] = out[v + 1]", "range(1)", "v = T.axis.spatial(63, i)", "reads other elements of what it writes"),
        (64, "out[0] = a[v, 0]", "range(1)", "v = T.axis.spatial(64, i)", "the same element"),
        (64, _SUM, "range(8)", "v, k = T.axis.spatial(64, i), T.axis.reduce(8, 7 - j)", "another order"),
        (64, _SUM, "T.thread_binding(8, thread='threadIdx.x')",
         "v, k = T.axis.spatial(64, i), T.axis.reduce(8, j)", "threads reduce together"),
    ],
)  # fmt: skip
def test_what_is_not_shown_to_be_the_same_is_left_alone(
    threads: int, value: str, loops: str, binding: str, reason: str
) -> None:
    function = _launch(threads, value, loops, binding)
    same, [made] = coalesced(function)
    assert same.same_as(function)
    assert reason in made.reason


def test_a_launch_of_several_blocks_is_no_nest() -> None:
    schedule = Schedule(examples.transposed())
    examples.tile(schedule)
    [(_, nest, _)] = nests(schedule.mod["main"])
    assert isinstance(nest, Refused)
    assert "more than one block" in str(nest)


def test_what_is_coalesced_already_stays() -> None:
    function = te.create_prim_func([a := te.placeholder((64, 64), name="a"), te.compute(a.shape, lambda i, j: a[i, j])])
    schedule = Schedule(function)
    block = schedule.get_child_blocks(schedule.get_sblock("root"))[0]
    outer, inner = schedule.split(schedule.fuse(*schedule.get_loops(block)), [None, 64])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    same, [made] = coalesced(schedule.mod["main"])
    assert same.same_as(schedule.mod["main"])
    assert made.reason == "no plan needs fewer transactions"


def test_a_transpose_goes_through_a_tile_without_conflicts() -> None:
    schedule = Schedule(examples.transposed())
    examples.column_threads(schedule)
    rewritten, [made] = coalesced(schedule.mod["main"])
    [before], [after] = (analyze(tvm.IRModule({"main": f}), TARGET) for f in (schedule.mod["main"], rewritten))
    assert before.total("global", "transactions") == 64 * 64 + 512
    assert after.total("global", "transactions") == 1024
    assert after.total("shared", "excess") == 0
    assert "tiled" in made.plan


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("matmul", True),
        ("conv2d", True),
        ("depthwise conv2d", True),
        ("sum", False),
        ("softmax", False),
        ("max", False),
    ],
)
def test_programs_that_tvm_tiles_are_told_apart(name: str, expected: bool) -> None:
    made: Callable[[], Any] = GROUND[name]
    assert reuses(made()) is expected
