"""Sketches of our own, beside those of TVM's rules. Each is a TVM trace too, so it replays and mutates like the others.

`packed product`: a matrix product whose right operand is first copied, panel by panel, into a buffer where the rows
that one register tile reads lie next to each other (Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication", 2008). Read in place, each step of the reduction is on another page, and powers of two put
all rows of a panel into the same few sets of the cache. In the second form the left operand is copied as well,
transposed, for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.target import Target
from tvm.tirx import IterVar

from kernels.workload import Workload

MAX_VECTOR = 64
"""Elements of the innermost loop: four AVX-512 registers of fp32."""


def own_schedules(workload: Workload, target: Target) -> Iterator[Schedule]:
    """Schedules whose traces are sketches, for the workloads that our recipes fit; none on a GPU."""
    if target.kind.name != "llvm":
        return
    for operands in ((1,), (1, 0)):
        schedule = Schedule(workload.module(), seed=1)
        if _packed_product(schedule, operands):
            yield schedule


def _packed_product(schedule: Schedule, packed: Sequence[int]) -> bool:
    """Schedule a product with the given operands packed; False where the program is none."""
    root = schedule.get_sblock("root", func_name="main")
    blocks = schedule.get_child_blocks(root)
    products = [b for b in blocks if _is_product(schedule.get(b))]
    if len(products) != 1 or blocks[0] is not products[0]:
        return False
    block = products[0]
    *batch, i, j, k = schedule.get_loops(block)
    written = schedule.cache_write(block, 0, "global")
    for consumer in schedule.get_consumers(written):
        schedule.reverse_compute_inline(consumer)
    copies = {operand: schedule.cache_read(block, operand, "global") for operand in packed}
    if 0 in copies:
        schedule.transform_layout(copies[0], ("write", 0), lambda *at: (*at[:-2], at[-1], at[-2]))
    i0, i1, i2 = schedule.split(i, schedule.sample_perfect_tile(i, 3, 16))
    j0, j1, j2 = schedule.split(j, schedule.sample_perfect_tile(j, 3, MAX_VECTOR))
    k0, k1 = schedule.split(k, schedule.sample_perfect_tile(k, 2, 64))
    schedule.reorder(*batch, i0, j0, j1, i1, k0, k1, i2, j2)
    outer = schedule.fuse(*batch, i0, j0)
    schedule.parallel(outer)
    schedule.compute_at(copies[1], j1)
    if 0 in copies:
        schedule.compute_at(copies[0], outer)
    schedule.reverse_compute_at(written, i1)
    first = schedule.decompose_reduction(block, k0)
    for tile in (block, first):
        *_, rows, columns = schedule.get_loops(tile)
        schedule.unroll(rows)
        schedule.vectorize(columns)
    for copy in (written, copies[1]):
        schedule.vectorize(schedule.get_loops(copy)[-1])
    return True


def _is_product(block: Any) -> bool:
    """Whether a block is C[..., i, j] += A[..., i, k] * B[..., k, j]."""
    kinds = [int(v.iter_type) for v in block.iter_vars]
    if len(kinds) < 3 or kinds != [IterVar.DataPar] * (len(kinds) - 1) + [IterVar.CommReduce] or len(block.reads) != 2:
        return False
    *batch, i, j, k = (v.var for v in block.iter_vars)
    wanted = ((*batch, i, k), (*batch, k, j))
    return all(
        len(region.region) == len(axes)
        and all(r.min.same_as(a) and int(r.extent) == 1 for r, a in zip(region.region, axes, strict=True))
        for region, axes in zip(block.reads, wanted, strict=True)
    ) and isinstance(block.body, tvm.tirx.BufferStore)
