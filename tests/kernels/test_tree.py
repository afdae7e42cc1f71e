"""A program as a tree of loops."""

from __future__ import annotations

import tvm
from tvm import te
from tvm.s_tir import Schedule

from kernels import examples
from kernels.tree import tree


def test_loops_and_what_they_write() -> None:
    a = te.placeholder((1, 64, 32), name="a")
    k = te.reduce_axis((0, 32), name="k")
    least = te.compute((1, 64), lambda h, i: te.max(a[h, i, k], axis=k), name="least")
    function = te.create_prim_func([a, te.compute((1, 64), lambda h, i: te.exp(least[h, i]), name="out")])
    schedule = Schedule(tvm.IRModule({"main": function}))
    _, i = schedule.get_loops(schedule.get_sblock("out"))
    outer, inner = schedule.split(i, (None, 16))
    schedule.parallel(outer)
    schedule.vectorize(inner)
    assert tree(schedule.mod["main"]).splitlines() == [
        "buffer least 1x64 float32",
        "for i 64, k 32",
        "  least max= a",
        "for parallel i_0 4",
        "  for vector i_1 16",
        "    out = least through exp",
    ]


def test_threads_and_memory_of_a_gpu() -> None:
    schedule = Schedule(tvm.IRModule({"main": examples.middle_sums()}))
    examples.pipelined(schedule)
    lines = tree(schedule.mod["main"]).splitlines()
    assert "buffer a_shared 32x8x64 float32 in shared memory" in lines
    assert "for blockIdx.x i 32" in lines
    assert any("software_pipeline_stage" in line for line in lines)
