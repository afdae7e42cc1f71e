"""Swizzled shared memory: its conflicts as an interpreter finds them, executed, refused where it is not shown."""

from __future__ import annotations

from typing import Any

import tvm
from tvm.s_tir import Schedule

from kernels import examples, swizzle
from kernels.access import access_form, analyze, counted_in_chunks
from kernels.emit_gpu import emit
from kernels.mma import with_mark
from kernels.passes import PassConfig
from kernels.passes.swizzle import Swizzle
from kernels.space import Candidate, TraceApplier, generate
from kernels.workload import from_prim_func
from tests.kernels.brute_access import brute
from tests.kernels.cuda_ground import TARGET, Case, Ground, workload

HALF = '[3,[[1,1,2,1,1],[3,1,1,1,1],[1,1,4],3,3,0],""]'
"""A candidate whose operands have rows of 128 and 32 bytes in shared memory."""


def tiled() -> Any:
    schedule = Schedule(examples.transposed())
    examples.tile(schedule)
    return schedule.mod["main"]


def candidate(name: str, text: str) -> Any:
    made = workload(name)
    return TraceApplier(made, generate(made, TARGET), TARGET).apply(Candidate.from_text(text)).mod["main"]


def conflicts(function: Any) -> int:
    return sum(launch.total("shared", "excess") for launch in analyze(tvm.IRModule({"main": function}), TARGET))


def test_conflicts_are_those_that_an_interpreter_finds() -> None:
    vectors = Schedule(examples.reversed_rows())
    examples.staged(vectors)
    for function, granule in ((tiled(), 4), (vectors.mod["main"], 16)):
        form = access_form(tvm.IRModule({"main": function}), TARGET)["main"]
        [launch] = counted_in_chunks(function, 1 << 24, [granule])[granule]
        ours = [(a.buffer, a.scope, a.store, a.requests, a.transactions) for a in launch.accesses]
        assert ours == brute(form, granule)


def test_a_tile_that_is_read_by_columns_loses_its_conflicts_and_stays_as_small(ground: Ground) -> None:
    before, after = tiled(), swizzle.swizzled(tiled())
    assert (conflicts(before), conflicts(after)) == (31 * 128, 0)
    assert swizzle.shared_bytes(before) == swizzle.shared_bytes(after) == 32 * 32 * 4
    made = from_prim_func(examples.transposed(), "transposed")
    program = emit(tvm.IRModule({"main": after}), TARGET)
    case = Case(made, Candidate(0), program)
    assert ground.wrong(case) == ""
    once = program.source.replace("_shared_ptr[", "_shared_ptr.memory[", 1)
    assert once != program.source
    assert ground.wrong(case, once) != ""


def test_rows_are_read_by_ldmatrix_without_conflicts_and_without_padding() -> None:
    function = with_mark(candidate("matmul in half", HALF))
    bare = swizzle.without_padding(function)
    assert bare is not None
    loads = {
        granule: [a for a in launch.of("shared") if a.vector == 8 and not a.store]
        for granule, [launch] in counted_in_chunks(bare, 1 << 16, [0, 16]).items()
    }
    assert loads[0]
    assert sum(a.excess for a in loads[0]) > 0
    assert sum(a.excess for a in loads[16]) == 0
    after = swizzle.swizzled(function)
    assert swizzle.shared_bytes(after) < swizzle.shared_bytes(function)
    assert conflicts(after) <= conflicts(function)


def test_what_cannot_be_shown_is_refused() -> None:
    half = candidate("matmul in half", HALF)
    assert "an intrinsic is given a pointer" in swizzle.why_not(half, TARGET)
    assert swizzle.why_not(with_mark(half), TARGET) == ""
    assert swizzle.why_not(examples.doubled(), TARGET) == "it has no launch whose accesses can be counted"
    assert swizzle.why_not(tiled(), tvm.target.Target("opencl")) == "only CUDA sources are swizzled"
    applied = PassConfig().replace(Swizzle(True)).applied(half, TARGET)
    assert list(applied.refused) == ["swizzle{on=1}"]
    assert applied.function.same_as(half)


def test_what_has_no_conflicts_stays() -> None:
    function = candidate("matmul", '[1,[[1,2,3,8,1],[1,1,32,1,1],[2,32,1],3,0],""]')
    assert swizzle.swizzled(function) is function
