"""The small programs on which docs/passes.md shows the passes, and schedules for them."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx
from tvm.s_tir import Schedule

from kernels.dots import MARK

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


def odd_sums() -> tirx.PrimFunc:
    """The sum of each of 64 rows of 27."""
    a = te.placeholder((64, 27), name="a")
    k = te.reduce_axis((0, 27), name="k")
    return te.create_prim_func([a, te.compute((64,), lambda i: te.sum(a[i, k], axis=k), name="out")])


def triangle() -> tirx.PrimFunc:
    """The product of a lower triangle of 16 by 16 with 16 columns."""
    a, b = te.placeholder((16, 16), name="a"), te.placeholder((16, 16), name="b")
    k = te.reduce_axis((0, 16), name="k")

    def element(i: tirx.Var, j: tirx.Var) -> tirx.PrimExpr:
        return te.sum(tirx.if_then_else(k <= i, a[i, k] * b[k, j], tirx.const(0, "float32")), axis=k)

    return te.create_prim_func([a, b, te.compute((16, 16), element, name="out")])


def smoothed() -> tirx.PrimFunc:
    """Each element of 8 rows of 32 by those beside it; the border is kept."""
    a, old = (te.placeholder((8, 32), name=name) for name in ("a", "b"))

    def element(i: tirx.Var, j: tirx.Var) -> tirx.PrimExpr:
        inside = tirx.all(i >= 1, i < 7, j >= 1, j < 31)
        return tirx.if_then_else(inside, a[i - 1, j] + a[i + 1, j] + a[i, j - 1] + a[i, j + 1], old[i, j])

    return te.create_prim_func([a, old, te.compute((8, 32), element, name="out")])


def centred() -> tirx.PrimFunc:
    """Rows of 32 less their maximum."""
    a = te.placeholder((64, 32), name="a")
    k = te.reduce_axis((0, 32), name="k")
    most = te.compute((64,), lambda i: te.max(a[i, k], axis=k), name="most")
    return te.create_prim_func([a, te.compute(a.shape, lambda i, j: a[i, j] - most[i], name="out")])


def reversed_rows() -> tirx.PrimFunc:
    """Twice the rows of one operand plus those of another, of integers, both in reverse."""
    a, b = te.placeholder((32, 64), name="a"), te.placeholder((32, 64), name="b", dtype="int32")
    first = te.compute(a.shape, lambda i, j: a[i, 63 - j] * 2.0, name="first")
    out = te.compute(a.shape, lambda i, j: first[i, j] + b[i, 63 - j].astype("float32"), name="out")
    return te.create_prim_func([a, b, out])


def transposed() -> tirx.PrimFunc:
    """A matrix of 64 x 64 with rows and columns exchanged."""
    a = te.placeholder((64, 64), name="a")
    return te.create_prim_func([a, te.compute(a.shape, lambda i, j: a[j, i], name="out")])


def bfloat16_product() -> tirx.PrimFunc:
    """A row of 8 bfloat16 by 16 columns, of which two steps are neighbours."""
    a, b = te.placeholder((1, 8), "bfloat16", name="a"), te.placeholder((4, 16, 2), "bfloat16", name="b")
    k = te.reduce_axis((0, 8), name="k")

    def element(i: tirx.PrimExpr, j: tirx.PrimExpr) -> tirx.PrimExpr:
        return te.sum(a[i, k].astype("float32") * b[k // 2, j, k % 2].astype("float32"), axis=k)

    return te.create_prim_func([a, b, te.compute((1, 16), element, name="out")])


# --- schedules ----------------------------------------------------------------------------------------


def untouched(schedule: Schedule) -> None:
    """Nothing is scheduled."""


def annotated(schedule: Schedule) -> None:
    """What TVM's rules leave to postprocessing: how far to vectorize and unroll."""
    root = schedule.get_sblock("root")
    schedule.annotate(root, "meta_schedule.vectorize", 64)
    schedule.annotate(root, "meta_schedule.unroll_explicit", 64)


def bound(schedule: Schedule) -> None:
    """Rows are blocks of a GPU, and their elements are threads."""
    rows, elements = schedule.get_loops(schedule.get_sblock("out"))
    schedule.bind(rows, "blockIdx.x")
    schedule.bind(elements, "threadIdx.x")


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
        schedule.bind(schedule.get_loops(stage)[-1], "threadIdx.x")


def column_threads(schedule: Schedule) -> None:
    """Neighbouring threads write a column: a row apart."""
    i, j = schedule.get_loops(schedule.get_sblock("out"))
    schedule.bind(j, "blockIdx.x")
    schedule.bind(i, "threadIdx.x")


def tile(schedule: Schedule) -> None:
    """Tiles of 32 x 32 through shared memory, of which a warp reads a column."""
    block = schedule.get_sblock("out")
    i, j = schedule.get_loops(block)
    (i_0, i_1), (j_0, j_1) = schedule.split(i, [None, 32]), schedule.split(j, [None, 32])
    schedule.reorder(i_0, j_0, i_1, j_1)
    schedule.bind(schedule.fuse(i_0, j_0), "blockIdx.x")
    staged = schedule.cache_read(block, 0, "shared")
    schedule.compute_at(staged, schedule.get_loops(block)[0])
    for row, column in ((i_1, j_1), tuple(schedule.get_loops(staged)[-2:])):
        schedule.bind(row, "threadIdx.y")
        schedule.bind(column, "threadIdx.x")


def marked(schedule: Schedule) -> None:
    """The steps and lanes of an instruction are innermost, and the block is marked for it."""
    block = schedule.get_sblock("out")
    _, lanes, k = schedule.get_loops(block)
    reduction, steps = schedule.split(k, [None, 2])
    schedule.reorder(reduction, steps, lanes)
    schedule.annotate(block, MARK, "dot_vdpbf16ps_512.bfloat16.bfloat16")
    schedule.annotate(reduction, MARK, 1)


def square_product() -> tirx.PrimFunc:
    """The product of two matrices of 64 x 64."""
    a, b = (te.placeholder((64, 64), name=name) for name in "ab")
    k = te.reduce_axis((0, 64), name="k")
    return te.create_prim_func([a, b, te.compute(a.shape, lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="out")])


def shared_product(schedule: Schedule) -> None:
    """`square_product` in tiles of 32 x 32, each with 4 steps of 16: operands through shared memory, sums in
    registers."""
    block = schedule.get_sblock("out")
    i, j, k = schedule.get_loops(block)
    (i, thread_i, inner), (j, thread_j) = schedule.split(i, [2, 8, 4]), schedule.split(j, [2, 32])
    step, k = schedule.split(k, [4, 16])
    schedule.reorder(i, j, thread_i, thread_j, step, k, inner)
    blocks, thread = schedule.fuse(i, j), schedule.fuse(thread_i, thread_j)
    schedule.bind(blocks, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    schedule.reverse_compute_at(schedule.cache_write(block, 0, "local"), thread)
    for operand in range(2):
        copied = schedule.cache_read(block, operand, "shared")
        schedule.compute_at(copied, step)
        _, lane = schedule.split(schedule.fuse(*schedule.get_loops(copied)[-2:]), [None, 256])
        schedule.bind(lane, "threadIdx.x")
    schedule.decompose_reduction(block, step)


def half_product() -> tirx.PrimFunc:
    """A product of 16 x 16 in float16, its sums in float32."""
    a, b = (te.placeholder((16, 16), "float16", name=name) for name in "ab")
    k = te.reduce_axis((0, 16), name="k")

    def cell(i: tirx.Var, j: tirx.Var) -> tirx.PrimExpr:
        return te.sum(a[i, k].astype("float32") * b[k, j].astype("float32"), axis=k)

    return te.create_prim_func([a, b, te.compute((16, 16), cell, name="out")])


def tensor_cores(schedule: Schedule) -> None:
    """`half_product` by one warp: operands through shared memory into fragments, the result back through it."""
    from tvm.s_tir.tensor_intrin.cuda import get_wmma_intrin_group

    group = get_wmma_intrin_group("shared", "shared", "float16", "float32", False)
    block = schedule.get_sblock("out")
    i, *_ = schedule.get_loops(block)
    outer, i = schedule.split(i, [1, None])
    schedule.bind(outer, "blockIdx.x")
    through = [schedule.cache_write(block, 0, scope) for scope in ("shared", "wmma.accumulator")]
    for store in reversed(through):
        schedule.reverse_compute_at(store, outer)
    for operand, role in enumerate(("load_a", "load_b")):
        staged = schedule.cache_read(block, operand, "shared")
        loaded = schedule.cache_read(block, operand, f"wmma.matrix_{'ab'[operand]}")
        for copy in (loaded, staged):
            schedule.compute_at(copy, outer)
        _threads(schedule, staged)
        schedule.tensorize(schedule.get_loops(loaded)[-2], group[role])
    _threads(schedule, through[0])
    schedule.tensorize(schedule.get_loops(through[1])[-2], group["store"])
    start = schedule.decompose_reduction(block, i)
    schedule.tensorize(schedule.get_loops(start)[-2], group["init"])
    schedule.tensorize(i, group["compute"])


def _threads(schedule: Schedule, block: Any) -> None:
    """A copy of a tile by 32 threads, each 4 elements at once."""
    tile = schedule.fuse(*schedule.get_loops(block)[-2:])
    _, thread, vector = schedule.split(tile, [None, 32, 4])
    schedule.bind(thread, "threadIdx.x")
    schedule.vectorize(vector)
