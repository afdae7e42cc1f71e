"""What warps ask of memory, counted statically, is what an interpreter of every thread finds."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from kernels import examples
from kernels.access import FEATURE_NAMES, LaunchAccess, Unbound, access_form, analyze, features
from kernels.features import COLUMNS, DEFAULTS
from kernels.space import TraceApplier, generate
from tests.kernels.brute_access import brute
from tests.kernels.opencl_ground import TARGET, cases, workload

EXACT = 1 << 24


def bound(compute: Any, shape: tuple[int, ...], threads: int, order: tuple[int, ...], dtype: str = "float32") -> Any:
    """An element-wise program whose loops are bound in an order, the last one to the threads first."""
    data = te.placeholder(shape, dtype, name="data")
    schedule = Schedule(te.create_prim_func([data, compute(data)]))
    block = schedule.get_sblock("out")
    loops = schedule.get_loops(block)
    schedule.reorder(*[loops[n] for n in order])
    outer, inner = schedule.split(schedule.fuse(*schedule.get_loops(block)), [None, threads])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    return schedule


def counted(schedule: Schedule) -> list[LaunchAccess]:
    """The launches of a program, after they were compared with the interpreter's."""
    found = list(analyze(schedule.mod, TARGET, EXACT))
    ours = [(a.buffer, a.scope, a.store, a.requests, a.transactions) for launch in found for a in launch.accesses]
    assert ours == brute(access_form(schedule.mod, TARGET)["main"])
    assert all(a.least <= a.transactions for launch in found for a in launch.accesses)
    return found


def copy(data: Any) -> Any:
    return te.compute(data.shape, lambda i, j: data[i, j], name="out")


def transpose(data: Any) -> Any:
    return te.compute(data.shape[::-1], lambda i, j: data[j, i], name="out")


def test_neighbours_that_read_neighbours_need_four_sectors_a_warp() -> None:
    [launch] = counted(bound(copy, (8, 64), 64, (0, 1)))
    assert [(a.requests, a.transactions, a.least, a.strides["threadIdx.x"]) for a in launch.accesses] == [
        (16, 64, 64, 4), (16, 64, 64, 4),
    ]  # fmt: skip


def test_a_column_needs_a_sector_for_each_thread() -> None:
    [launch] = counted(bound(copy, (64, 8), 64, (1, 0)))
    assert [(a.requests, a.transactions, a.least) for a in launch.accesses] == [(16, 512, 64)] * 2


@pytest.mark.parametrize(("shape", "threads"), [((7, 13), 32), ((33, 5), 64), ((16, 16), 48)])
@pytest.mark.parametrize("dtype", ["float32", "int8", "float64"])
def test_odd_transposes(shape: tuple[int, int], threads: int, dtype: str) -> None:
    [launch] = counted(bound(transpose, shape, threads, (0, 1), dtype))
    assert launch.total("global", "excess") > 0
    assert launch.exact


@pytest.mark.parametrize("name", ["sum", "sum of columns", "softmax of primes"])
def test_candidates_of_spaces(name: str) -> None:
    made = workload(name)
    applier = TraceApplier(made, generate(made, TARGET), TARGET)
    for case in cases(made, 2, 7):
        counted(applier.apply(case.candidate))


def tile(pad: int) -> Schedule:
    """A transpose through shared memory, with rows padded by some elements."""
    data = te.placeholder((64, 64), name="data")
    schedule = Schedule(te.create_prim_func([data, transpose(data)]))
    examples.tile(schedule)
    if pad:
        schedule.storage_align(schedule.get_sblock("data_shared"), 0, 0, 32, pad)
    return schedule


@pytest.mark.parametrize(("pad", "conflicts"), [(0, 31), (1, 0), (2, 1), (16, 15)])
def test_the_padding_of_a_tile_decides_its_conflicts(pad: int, conflicts: int) -> None:
    [launch] = counted(tile(pad))
    assert launch.total("global", "excess") == 0
    assert launch.total("shared", "excess") == conflicts * 128  # warps that read the tile by columns


def test_an_index_that_depends_on_data_is_an_estimate() -> None:
    data, index = te.placeholder((64,), name="data"), te.placeholder((64,), "int32", name="index")
    out = te.compute((64,), lambda i: data[index[i]], name="out")
    schedule = Schedule(te.create_prim_func([data, index, out]))
    schedule.bind(schedule.get_loops(schedule.get_sblock("out"))[0], "threadIdx.x")
    [launch] = analyze(schedule.mod, TARGET)
    [gathered] = [a for a in launch.accesses if a.buffer == "data"]
    assert (gathered.exact, gathered.transactions) == (False, 64)
    assert not launch.exact


def test_few_looked_at_are_an_estimate_close_to_all() -> None:
    schedule = bound(transpose, (48, 36), 32, (0, 1))
    [all_of_them], [few] = analyze(schedule.mod, TARGET, EXACT), analyze(schedule.mod, TARGET, 512)
    assert not few.exact
    assert few.total("global", "transactions") == pytest.approx(all_of_them.total("global", "transactions"), rel=0.2)


def test_features_have_a_place_and_are_zero_where_nothing_was_stored() -> None:
    found = dict(zip(FEATURE_NAMES, features(tile(0).mod, TARGET), strict=True))
    assert found["coalesced"] == found["known"] == 1.0
    assert found["bank_free"] < 0.1
    assert all(DEFAULTS[f"access.{name}"] == 0.0 and f"access.{name}" in COLUMNS for name in FEATURE_NAMES)


def test_a_program_without_threads_is_refused() -> None:
    data = te.placeholder((4, 4), name="data")
    module = tvm.IRModule({"main": te.create_prim_func([data, copy(data)])})
    with pytest.raises(Unbound, match="no loop"):
        analyze(module, TARGET)
    assert set(features(module, TARGET)) == {0.0}


def test_a_launch_that_runs_nothing_touches_nothing() -> None:
    schedule = bound(copy, (8, 64), 64, (0, 1))
    empty = te.placeholder((0, 64), name="data")
    nothing = Schedule(te.create_prim_func([empty, copy(empty)]))
    nothing.bind(nothing.get_loops(nothing.get_sblock("out"))[1], "threadIdx.x")
    [launch] = analyze(nothing.mod, TARGET)
    assert launch.total("global", "transactions") == 0 < analyze(schedule.mod, TARGET)[0].total("global", "requests")
