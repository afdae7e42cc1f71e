"""Persistent blocks: each tile once, executed on the simulated GPU and by PoCL, and what is broken on purpose is seen.
experiments/gpu_passes runs hundreds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from kernels import examples
from kernels.emit_gpu import emit
from kernels.opencl import emit_opencl
from kernels.passes import PassConfig
from kernels.passes.persist import Persist
from kernels.persistent import pending, walk, walked
from kernels.persistent.launches import Launch, launches, opaque, resident
from kernels.space import Candidate, TraceApplier, generate
from kernels.workload import from_prim_func
from tests.kernels import cuda_ground, opencl_ground
from tests.kernels.coalescing_programs import bound, program
from tests.kernels.gpu_ground import Case
from tests.kernels.gpu_workloads import matmul
from tests.kernels.persistent_programs import drawn, shorter, without_last_barrier
from tests.kernels.test_opencl_ground import ground as pocl  # noqa: F401 - a fixture


def transposition() -> Any:
    """A transposition of 96 x 64 in six tiles through shared memory."""
    a = te.placeholder((96, 64), name="a")
    return te.create_prim_func([a, te.compute((64, 96), lambda i, j: a[j, i], name="out")])


def tiled(function: Any) -> Any:
    schedule = Schedule(function)
    examples.tile(schedule)
    return schedule.mod["main"]


def case(function: Any, scheduled: Any, target: Any, emitter: Any, blocks: int) -> Case:
    applied = PassConfig().replace(Persist(True, blocks)).applied(scheduled, target)
    assert applied.refused == {}
    module = tvm.IRModule({"main": applied.function})
    return Case(from_prim_func(function, "program"), Candidate(-1, (), applied.passes), emitter(module, target))


@pytest.mark.parametrize("blocks", [1, 4, 5])
def test_each_tile_is_computed_once_and_in_order(blocks: int, ground: cuda_ground.Ground) -> None:
    made = case(transposition(), tiled(transposition()), cuda_ground.TARGET, emit, blocks)
    [launch] = made.program.plan.launches
    assert launch.grid == (blocks, 1, 1)
    assert ground.wrong(made) == ""


def test_what_is_broken_is_seen(ground: cuda_ground.Ground) -> None:
    made = case(transposition(), tiled(transposition()), cuda_ground.TARGET, emit, 2)
    source = made.program.source
    barrier = without_last_barrier(source, "__syncthreads();")
    assert barrier is not None
    assert "race" in ground.wrong(made, barrier)
    tile = shorter(source, "number")
    assert tile is not None
    assert ground.wrong(made, tile) != ""


def test_several_axes_of_blocks_are_one(ground: cuda_ground.Ground) -> None:
    """Blocks along z, y and x, of prime extents: the coordinates are found from a tile's number."""
    a = te.placeholder((3, 5, 7, 16), name="a")
    function = te.create_prim_func([a, te.compute(a.shape, lambda *i: a[i] * 2.0 + i[0] * 100.0, name="out")])
    schedule = Schedule(function)
    loops = schedule.get_loops(schedule.get_sblock("out"))
    for loop, tag in zip(loops, ("blockIdx.z", "blockIdx.y", "blockIdx.x", "threadIdx.x"), strict=True):
        schedule.bind(loop, tag)
    made = case(function, schedule.mod["main"], cuda_ground.TARGET, emit, 4)
    assert made.program.plan.launches[0].grid == (4, 1, 1)
    assert "__syncthreads" not in made.program.source
    assert ground.wrong(made) == ""


@pytest.mark.parametrize("seed", [6])
def test_random_programs_are_right(seed: int, ground: cuda_ground.Ground) -> None:
    found = drawn(seed, cuda_ground.TARGET, emit)
    assert found is not None
    assert ground.wrong(found[0]) == ""


@pytest.mark.parametrize("seed", [9, 13])
def test_random_programs_are_right_on_pocl(seed: int, pocl: opencl_ground.Ground) -> None:  # noqa: F811
    function, _ = program(seed)
    scheduled = bound(function, seed)
    before = launches(opaque(scheduled))[0]
    assert isinstance(before, Launch)
    assert before.tiles > 1
    blocks = before.tiles - 1
    assert pocl.wrong(case(function, scheduled, opencl_ground.TARGET, emit_opencl, blocks)) == ""


@pytest.mark.parametrize("name", ["matmul", "conv2d of primes", "softmax", "matmul in half", "depthwise conv2d"])
def test_lowering_twice_changes_nothing(name: str) -> None:
    """What the rewrites begin from is what TVM's pipeline would have come to by itself."""
    for drawn_case in cuda_ground.cases(cuda_ground.workload(name), 1):
        made = drawn_case.workload
        applier = TraceApplier(made, generate(made, cuda_ground.TARGET), cuda_ground.TARGET)
        function = applier.apply(drawn_case.candidate).mod["main"]
        again = emit(tvm.IRModule({"main": opaque(function)}), cuda_ground.TARGET, made.num_outputs)
        assert again.source == drawn_case.program.source


# --- what stays ------------------------------------------------------------------------------------------


def test_blocks_that_are_all_resident_stay() -> None:
    scheduled = tiled(transposition())
    same, [became] = walked(scheduled, "sm_90a")
    assert same.same_as(scheduled)
    assert became.reason == "all of its 6 thread blocks are resident at once"
    applied = PassConfig().replace(Persist(True)).applied(scheduled, cuda_ground.TARGET)
    assert applied.refused == {"persist{on=1,blocks=0}": became.reason}


def test_how_many_blocks_are_resident() -> None:
    [launch] = launches(opaque(tiled(transposition())))
    assert isinstance(launch, Launch)
    assert launch.threads == 1024
    assert resident(launch, "sm_90a") == 132 * 2
    assert resident(launch, "sm_75") == 72


def test_a_function_without_launches_is_refused() -> None:
    applied = PassConfig().replace(Persist(True, 2)).applied(transposition(), cuda_ground.TARGET)
    assert list(applied.refused.values()) == ["it has no launch"]


def test_text_form() -> None:
    config = PassConfig().replace(Persist(True, 3))
    assert config.to_text() == "persist{on=1,blocks=3}"
    assert PassConfig.from_text(config.to_text()) == config


def test_pipelined_tiles_are_right(ground: cuda_ground.Ground) -> None:
    """Their copies are asynchronous; the next tile begins when all of them have arrived."""
    function = matmul(64, 64, 64)
    made = from_prim_func(function, "program")
    space = generate(made, cuda_ground.TARGET, ["unroll"])
    candidate = space.sample_sketch(1, np.random.default_rng(0))
    assert candidate is not None
    scheduled = TraceApplier(made, space, cuda_ground.TARGET).apply(candidate).mod["main"]
    persistent = case(function, scheduled, cuda_ground.TARGET, emit, 1)
    assert "cp.async" in persistent.program.source
    assert ground.wrong(persistent) == ""
    unwaited = cuda_ground.without_wait(persistent.program.source)
    assert unwaited is not None
    assert ground.wrong(persistent, unwaited) != ""


def test_copies_that_are_still_under_way_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    commit, wait = "async_commit_queue_scope", "async_wait_inflight_count"
    zero, nothing = tirx.const(0, "int32"), tirx.Evaluate(0)

    def marked(*keys: str, in_flight: int = 0) -> bool:
        parts = [tirx.AttrStmt(zero, key, tirx.const(in_flight, "int32"), nothing) for key in keys]
        return pending._drained(tirx.SeqStmt([*parts, nothing]))  # noqa: SLF001

    assert marked(commit, wait)
    assert not marked(wait, commit)
    assert not marked(commit, wait, in_flight=1)
    assert not pending._drained(  # noqa: SLF001
        tirx.SeqStmt([
            tirx.AttrStmt(zero, commit, zero, nothing),
            tirx.IfThenElse(tirx.Var("p", "bool"), tirx.AttrStmt(zero, wait, zero, nothing), None),
        ])
    )  # fmt: skip
    monkeypatch.setattr(walk, "arrived", lambda function: False)
    scheduled = tiled(transposition())
    same, [became] = walked(scheduled, "sm_90a", 5)
    assert same.same_as(scheduled)
    assert became.reason == "a tile may end before its asynchronous copies have arrived"
