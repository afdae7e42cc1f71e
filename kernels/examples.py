"""The small programs on which docs/passes.md shows the passes, and schedules for them."""

from __future__ import annotations

from tvm import te, tirx
from tvm.s_tir import Schedule

# --- programs -----------------------------------------------------------------------------------------


def doubled() -> tirx.PrimFunc:
    """Every element doubled: 8 rows of 16."""
    a = te.placeholder((8, 16), name="a")
    return te.create_prim_func([a, te.compute(a.shape, lambda i, j: a[i, j] * 2.0, name="out")])


def products() -> tirx.PrimFunc:
    """Products of two operands, element by element: 4096 of them."""
    a, b = (te.placeholder((4096,), name=name) for name in "ab")
    return te.create_prim_func([a, b, te.compute(a.shape, lambda i: a[i] * b[i], name="out")])


def row_sums() -> tirx.PrimFunc:
    """The sum of each of 64 rows of 4."""
    a = te.placeholder((64, 4), name="a")
    k = te.reduce_axis((0, 4), name="k")
    return te.create_prim_func([a, te.compute((64,), lambda i: te.sum(a[i, k], axis=k), name="out")])


def long_sum() -> tirx.PrimFunc:
    """One sum of 4096 elements."""
    a = te.placeholder((4096,), name="a")
    k = te.reduce_axis((0, 4096), name="k")
    return te.create_prim_func([a, te.compute((1,), lambda _: te.sum(a[k], axis=k), name="out")])


def chain() -> tirx.PrimFunc:
    """Three intermediate buffers, of which the first is not needed any more when the third is written."""
    a = te.placeholder((1024,), name="a")
    first = te.compute(a.shape, lambda i: a[i] + 1.0, name="first")
    second = te.compute(a.shape, lambda i: first[1023 - i] * 2.0, name="second")
    third = te.compute(a.shape, lambda i: second[1023 - i] + 3.0, name="third")
    return te.create_prim_func([a, te.compute(a.shape, lambda i: third[1023 - i] * 4.0, name="out")])


def neighbours() -> tirx.PrimFunc:
    """Sums of two elements whose places have a common part."""
    a = te.placeholder((8, 17), name="a")
    return te.create_prim_func([a, te.compute((8, 16), lambda i, j: a[i, j] + a[i, j + 1], name="out")])


def exponentials() -> tirx.PrimFunc:
    """e^x of each element: 64 rows of 16."""
    a = te.placeholder((64, 16), name="a")
    return te.create_prim_func([a, te.compute(a.shape, lambda i, j: te.exp(a[i, j]), name="out")])


def planes() -> tirx.PrimFunc:
    """Every element of three planes of eight rows doubled."""
    a = te.placeholder((3, 8, 16), name="a")
    return te.create_prim_func([a, te.compute(a.shape, lambda i, j, k: a[i, j, k] * 2.0, name="out")])


def middle_sums() -> tirx.PrimFunc:
    """Sums over the middle axis."""
    a = te.placeholder((32, 8, 64), name="a")
    k = te.reduce_axis((0, 8), name="k")
    return te.create_prim_func([a, te.compute((32, 64), lambda i, j: te.sum(a[i, k, j], axis=k), name="out")])


def reversed_rows() -> tirx.PrimFunc:
    """Twice the rows of one operand plus every other element of the rows of another, both in reverse."""
    a, b = te.placeholder((32, 64), name="a"), te.placeholder((32, 128), name="b")
    first = te.compute(a.shape, lambda i, j: a[i, 63 - j] * 2.0, name="first")
    out = te.compute(a.shape, lambda i, j: first[i, j] + b[i, 127 - 2 * j], name="out")
    return te.create_prim_func([a, b, out])


# --- schedules ----------------------------------------------------------------------------------------


def untouched(schedule: Schedule) -> None:
    """Nothing is scheduled."""


def annotated(schedule: Schedule) -> None:
    """What TVM's rules leave to postprocessing: how far to vectorize and unroll."""
    root = schedule.get_sblock("root")
    schedule.annotate(root, "meta_schedule.vectorize", 64)
    schedule.annotate(root, "meta_schedule.unroll_explicit", 64)


def vectors(schedule: Schedule) -> None:
    """Rows are vectors."""
    schedule.vectorize(schedule.get_loops(schedule.get_sblock("out"))[-1])


def parallel(schedule: Schedule) -> None:
    """The outermost loop is parallel."""
    schedule.parallel(schedule.get_loops(schedule.get_sblock("out"))[0])


def pipelined(schedule: Schedule) -> None:
    """Rows pass through shared memory, and the copy of the next one is under way while one is used."""
    block = schedule.get_sblock("out")
    i, j, reduced = schedule.get_loops(block)
    schedule.reorder(i, reduced, j)
    schedule.bind(i, "blockIdx.x")
    schedule.bind(j, "threadIdx.x")
    total = schedule.cache_write(block, 0, "local")
    schedule.reverse_compute_at(total, i)
    schedule.bind(schedule.get_loops(total)[-1], "threadIdx.x")
    copy = schedule.cache_read(block, 0, "shared")
    schedule.compute_at(copy, reduced)
    schedule.bind(schedule.get_loops(copy)[-1], "threadIdx.x")
    schedule.decompose_reduction(block, reduced)
    for key, value in (("stage", [0, 1]), ("order", [0, 1]), ("async_stages", [0])):
        schedule.annotate(reduced, f"software_pipeline_{key}", value)


def staged(schedule: Schedule) -> None:
    """Two operands pass through shared memory, one after the other."""
    block, last = schedule.get_sblock("first"), schedule.get_sblock("out")
    i, j = schedule.get_loops(last)
    schedule.bind(i, "blockIdx.x")
    schedule.bind(j, "threadIdx.x")
    schedule.set_scope(block, 0, "local")
    for stage in (block, schedule.cache_read(block, 0, "shared"), schedule.cache_read(last, 1, "shared")):
        schedule.compute_at(stage, i)
        schedule.bind(schedule.split(schedule.get_loops(stage)[-1], (None, 64))[1], "threadIdx.x")
