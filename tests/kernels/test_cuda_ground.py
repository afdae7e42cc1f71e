"""Over 200 CUDA candidates executed without a GPU, and sabotages that are seen; more: experiments/cuda_simulated."""

from __future__ import annotations

import pytest
from tvm import te
from tvm.s_tir import Schedule

from kernels.emit_gpu import emit
from kernels.space import Candidate, TraceApplier, generate
from kernels.workload import from_prim_func
from tests.kernels.cuda_ground import (
    GROUND,
    TARGET,
    Case,
    Ground,
    beyond_shared,
    cases,
    narrower,
    swapped_fragment,
    without_barrier,
    without_wait,
    workload,
    wrong_stride,
)

EXECUTED: dict[str, int] = {}


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUND)
def test_candidates_are_right(name: str, ground: Ground) -> None:
    drawn = list(cases(workload(name), 8))
    wrong = ground.wrong_ones(drawn)
    EXECUTED[name] = len(drawn) - len(wrong)
    assert [reason for reason in wrong.values() if not reason.startswith("not compiled")] == []


def test_enough_was_executed() -> None:
    if len(EXECUTED) < len(GROUND):
        pytest.skip("only a part of the programs was asked for, or there is no simulated GPU")
    assert min(EXECUTED.values()) >= 5, EXECUTED
    assert sum(EXECUTED.values()) >= 200, EXECUTED


MISALIGNED = {
    "grouped conv2d": '[1,[[1,1,1,1,1],[1,1,6,2,1],[3,1,3,1,1],[1,1,3,1,3],[1,2,1],[3,1,1],[3,1,1],0,1],""]',
    "matmul in int8": '[1,[[2,1,8,1,2],[2,1,12,1,2],[32,1,1],3,4],"cuda_math{fast=1}"]',
}
"""Candidates whose asynchronous copies, merged from those of neighbouring elements, would begin at odd addresses."""


@pytest.mark.parametrize("name", MISALIGNED)
def test_copies_that_may_be_misaligned_are_not_asynchronous(name: str, ground: Ground) -> None:
    made = workload(name)
    schedule = TraceApplier(made, generate(made, TARGET), TARGET).apply(Candidate.from_text(MISALIGNED[name]))
    program = emit(schedule.mod, TARGET, made.num_outputs)
    assert "cp.async.ca" not in program.source
    assert ground.wrong(Case(made, Candidate.from_text(MISALIGNED[name]), program)) == ""


@pytest.mark.parametrize(("dtype", "vector"), [("float16", "uint4"), ("float32", "ulonglong4")])
def test_vectors_of_eight_from_places_that_are_not_neighbours_have_a_constructor(
    dtype: str, vector: str, ground: Ground
) -> None:
    """CUDA has it for four values only."""
    given = te.placeholder((24, 8), dtype, name="given")
    made = from_prim_func(te.create_prim_func([given, te.compute((8, 24), lambda i, j: given[j, i], "turned")]), "turn")
    schedule = Schedule(made.module())
    i, j = schedule.get_loops(schedule.get_sblock("turned"))
    outer, inner = schedule.split(j, [None, 8])
    schedule.bind(schedule.fuse(i, outer), "threadIdx.x")
    schedule.vectorize(inner)
    program = emit(schedule.mod, TARGET, made.num_outputs)
    assert f"= make_{vector}(" in program.source
    assert ground.wrong(Case(made, generate(made, TARGET).default(), program)) == ""


@pytest.fixture(scope="module")
def pipelined() -> Case:
    """A matrix product whose operands are copied into shared memory asynchronously."""
    return next(
        case
        for sketch in (1, 2)
        for case in cases(workload("matmul"), 6, sketch=sketch)
        if "cp_async" in case.program.source and "__syncthreads" in case.program.source
    )


@pytest.fixture(scope="module")
def tensor_cores() -> Case:
    """A matrix product on tensor cores with several fragments of an operand."""
    return next(
        case
        for case in cases(workload("matmul in half"), 12, sketch=3)
        if swapped_fragment(case.program.source) and "__syncthreads" in case.program.source
    )


def test_a_barrier_that_is_missing_is_a_race(ground: Ground, pipelined: Case, tensor_cores: Case) -> None:
    for case in (pipelined, tensor_cores):
        assert ground.wrong(case) == ""
        sources = [without_barrier(case.program.source, number) for number in range(4)]
        found = [ground.wrong(case, source) for source in sources if source is not None]
        assert any("a data race" in reason for reason in found)
        assert all("launch failure" in reason for reason in found if reason), "one that is not missed orders nothing"


def test_a_missing_wait_is_seen(ground: Ground, pipelined: Case) -> None:
    source = without_wait(pipelined.program.source)
    assert source is not None
    assert "before the asynchronous copy to it was waited for" in ground.wrong(pipelined, source)


def test_a_swapped_fragment_is_seen(ground: Ground, tensor_cores: Case) -> None:
    source = swapped_fragment(tensor_cores.program.source)
    assert source is not None
    assert "wrong" in ground.wrong(tensor_cores, source)


def test_a_wrong_stride_is_seen(ground: Ground, pipelined: Case, tensor_cores: Case) -> None:
    source = narrower(tensor_cores.program.source)
    assert source is not None
    assert ground.wrong(tensor_cores, source)
    source = wrong_stride(pipelined.program.source, 64)
    assert source is not None
    assert ground.wrong(pipelined, source)


def test_shared_memory_that_is_too_small_is_seen(ground: Ground, pipelined: Case) -> None:
    found = ground.wrong(pipelined, beyond_shared(pipelined.program.source))
    assert "not supported on global/shared address space" in found, "an asynchronous copy to what is no shared memory"
    plain = next(case for case in cases(workload("matmul of odd"), 4, sketch=0) if "__shared__" in case.program.source)
    found = ground.wrong(plain, beyond_shared(plain.program.source))
    assert "an illegal memory access" in found
