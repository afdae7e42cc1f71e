"""Rows of shared memory are padded where that avoids conflicts, and never so that a vector is not aligned."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm.s_tir import Schedule

from kernels import examples
from kernels.access import LaunchAccess, analyze
from kernels.bank_layout import padded, why_not
from kernels.passes.bank_padding import BankPadding
from kernels.space import Candidate, TraceApplier, generate
from tests.kernels.opencl_ground import TARGET, Ground, workload
from tests.kernels.test_coalescing import case
from tests.kernels.test_opencl_ground import ground  # noqa: F401 - a fixture


def tiled() -> Any:
    schedule = Schedule(examples.transposed())
    examples.tile(schedule)
    return schedule.mod["main"]


def accesses(function: Any) -> LaunchAccess:
    [launch] = analyze(tvm.IRModule({"main": function}), TARGET)
    return launch


def test_a_tile_that_is_read_by_columns_loses_its_conflicts(ground: Ground) -> None:  # noqa: F811
    before, after = accesses(tiled()), accesses(padded(tiled()))
    assert before.total("shared", "excess") == 31 * 128
    assert after.total("shared", "excess") == 0
    assert (before.shared_bytes, after.shared_bytes) == (32 * 32 * 4, 32 * 33 * 4)
    assert ground.wrong(case(examples.transposed(), padded(tiled()))) == ""


def test_staged_operands_are_padded_so_that_their_vectors_stay_aligned(ground: Ground) -> None:  # noqa: F811
    made = workload("matmul in int8")
    candidate = Candidate.from_text('[0,[[2,1,16,1,1],[1,1,4,4,3],[1,4,8],4,4],""]')
    function = TraceApplier(made, generate(made, TARGET), TARGET).apply(candidate).mod["main"]
    after = padded(function)
    before, counted = accesses(function), accesses(after)
    assert before.total("shared", "excess") > 2 * counted.total("shared", "excess")
    vectors = [access for access in counted.of("shared") if access.vector > 1]
    assert {access.vector for access in vectors} == {8}
    assert all(stride is None or stride % 8 == 0 for access in vectors for stride in access.strides.values())
    assert ground.wrong(case(made.module()["main"], after)) == ""


def test_what_has_no_rows_is_refused() -> None:
    schedule = Schedule(examples.doubled())
    i, j = schedule.get_loops(schedule.get_sblock("out"))
    schedule.bind(i, "blockIdx.x")
    schedule.bind(j, "threadIdx.x")
    function = schedule.mod["main"]
    assert why_not(function, TARGET) == "no buffer in shared memory has rows that can be padded"
    assert why_not(examples.doubled(), TARGET) == "it has no launch whose accesses can be counted"
    assert BankPadding(True).refusal(function, TARGET) == why_not(function, TARGET)
    assert BankPadding().refusal(function, TARGET) == ""


def test_rows_that_would_not_fit_are_refused() -> None:
    small = tvm.target.Target({**{k: v for k, v in dict(TARGET.export()).items() if k != "tag"},
                               "max_shared_memory_per_block": 4100})  # fmt: skip
    with pytest.MonkeyPatch.context():
        assert "more than 4100 bytes" in why_not(tiled(), small)
