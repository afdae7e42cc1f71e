"""Which thread touches what, and kernels whose threads take their parts along other loops."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi
from tvm.s_tir import Schedule

from kernels.passes.thread_share import ThreadShare, levels, parallel_loops
from kernels.shares import Shares, divided_along, shares
from tests.kernels.programs import llvm


def scaled(rows: int, columns: int, fused: bool) -> tirx.PrimFunc:
    """b[i, j] = 2 a[i, j], parallel over i, or over both."""
    a = te.placeholder((rows, columns), name="a")
    b = te.compute((rows, columns), lambda i, j: a[i, j] * 2.0, name="b")
    schedule = Schedule(te.create_prim_func([a, b]))
    i, j = schedule.get_loops(schedule.get_sblock("b"))
    inner = schedule.split(j, [None, 2])
    schedule.parallel(schedule.fuse(i, inner[0]) if fused else i)
    return schedule.mod["main"]


def padded_convolution() -> tirx.PrimFunc:
    """Two parallel nests: the padding, and the convolution over channels and rows."""
    data, weight = te.placeholder((1, 3, 8, 8), name="data"), te.placeholder((6, 3, 3, 3), name="weight")
    out = topi.nn.conv2d_nchw(data, weight, 1, 1, 1)
    schedule = Schedule(te.create_prim_func([data, weight, out]))
    pad, product = schedule.get_child_blocks(schedule.get_sblock("root"))
    schedule.parallel(schedule.fuse(*schedule.get_loops(pad)[:3]))
    schedule.parallel(schedule.fuse(*schedule.get_loops(product)[:3]))
    return schedule.mod["main"]


PROGRAMS = {
    "rows": scaled(6, 8, fused=False),
    "rows and columns": scaled(6, 8, fused=True),
    "odd rows": scaled(7, 12, fused=True),
    "odd pairs": scaled(4, 14, fused=True),
    "one row": scaled(1, 8, fused=True),
    "convolution": padded_convolution(),
}


def outputs(function: tirx.PrimFunc) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    tensors = [
        tvm.runtime.tensor(rng.standard_normal([int(n) for n in p.shape]).astype("float32")) for p in function.params
    ]
    tvm.compile(function, target=llvm())["main"](*tensors)
    return [t.numpy() for t in tensors]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_other_shares_change_no_result(name: str, count: int) -> None:
    function = PROGRAMS[name]
    expected = outputs(function)
    for level in range(5):
        for got, want in zip(outputs(ThreadShare(level, count).on_function(function)), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)  # other loops vectorize otherwise


def test_each_thread_has_one_iteration_and_its_part_of_the_level() -> None:
    function = PROGRAMS["rows and columns"]
    assert levels(function, 2) == (1,)
    [loop] = parallel_loops(ThreadShare(1, 2).on_function(function))
    assert int(loop.extent) == 2
    assert shares(ThreadShare(1, 2).on_function(function), 2).writes == (
        frozenset({(1, ((0, 6), (0, 4)))}), frozenset({(1, ((0, 6), (4, 8)))}),
    )  # fmt: skip


def test_a_level_that_threads_cannot_divide_about_evenly_stays() -> None:
    function = PROGRAMS["odd rows"]  # 7 rows of 6 pairs
    assert levels(function, 2) == (1,)
    assert levels(function, 4) == ()
    assert ThreadShare(1, 4).on_function(function).script() == function.script()
    assert ThreadShare(9, 2).on_function(function).script() == function.script()


def test_seven_are_divided_into_four_and_three() -> None:
    function = scaled(3, 14, fused=True)
    assert levels(function, 2) == (1,)
    found = shares(ThreadShare(1, 2).on_function(function), 2)
    assert found.writes == (frozenset({(1, ((0, 3), (0, 8)))}), frozenset({(1, ((0, 3), (8, 14)))}))
    assert found.largest() == 8 / 7
    assert levels(scaled(3, 10, fused=True), 2) == (1,) and levels(scaled(2, 6, fused=True), 2) == ()


def test_along_which_axis_the_output_is_divided() -> None:
    function = PROGRAMS["rows and columns"]
    assert [divided_along(shares(ThreadShare(level, 2).on_function(function), 2)) for level in (0, 1)] == [0, 1]
    assert divided_along(shares(scaled(5, 8, fused=True), 2)) is None  # two rows and a half
    assert divided_along(shares(function, 1)) is None


def test_shares_are_what_threads_touch() -> None:
    """By running each thread's part alone: what it changes lies in its boxes, and in nobody else's."""
    function = PROGRAMS["convolution"]
    for level in (0, *levels(function, 2)):
        divided = shares(ThreadShare(level, 2).on_function(function), 2)
        if not divided.apart():
            continue
        covered = np.zeros((1, 6, 8, 8), int)
        for boxes in divided.writes:
            for number, box in boxes:
                assert number == 2
                covered[tuple(slice(*bounds) for bounds in box)] += 1
        assert (covered == 1).all()


def test_a_row_of_a_convolution_reads_its_neighbours() -> None:
    function = PROGRAMS["convolution"]
    rows = shares(ThreadShare(1, 2).on_function(function), 2)
    assert rows.writes == (
        frozenset({(2, ((0, 1), (0, 6), (0, 4), (0, 8)))}), frozenset({(2, ((0, 1), (0, 6), (4, 8), (0, 8)))}),
    )  # fmt: skip


def test_what_is_not_parallel_is_the_first_threads() -> None:
    a = te.placeholder((4,), name="a")
    function = te.create_prim_func([a, te.compute((4,), lambda i: a[i] + 1.0, name="b")])
    found = shares(function, 2)
    assert found.writes == (frozenset({(1, ((0, 4),))}), frozenset())
    assert found.reads == (frozenset({(0, ((0, 4),))}), frozenset())
    assert Shares.from_json(found.to_json()) == found


def test_boxes_that_meet_are_not_apart() -> None:
    first, second = frozenset({(1, ((0, 5),))}), frozenset({(1, ((4, 8),))})
    assert not Shares((first, second), (first, second)).apart()
    assert Shares((first, second), (first, frozenset({(1, ((5, 8),))}))).apart()
    assert Shares((first, second), (first, frozenset({(2, ((4, 8),))}))).apart()
