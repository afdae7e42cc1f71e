"""Tensor cores by mma.sync and ldmatrix: the instructions against a table of their own, candidates, sabotages."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray

from kernels import mma
from kernels.cubin import compile_cubin
from kernels.emit_gpu import GpuProgram, emit
from kernels.launch_plan import Argument, Launch, LaunchPlan
from kernels.passes import PassConfig
from kernels.passes.mma import Mma
from kernels.passes.swizzle import Swizzle
from kernels.space import TraceApplier, generate
from kernels.tensors import TensorSpec
from kernels.workload import Workload, from_prim_func
from tests.kernels.cuda_ground import TARGET, Case, Ground, cases, swapped_fragment, workload
from tests.kernels.gpu_workloads import gpu, matmul
from tuner.devices.cuda.simulated.compiler import compile_simulated

Array = NDArray[Any]

LAYOUTS = {
    # PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": a0 to a7 of the lanes of group 0 as the
    # figure has them, row by row of the figure: (row, column) of lane 0, and what one more lane and group add.
    2: [(0, 0), (0, 1), (8, 0), (8, 1), (0, 8), (0, 9), (8, 8), (8, 9)],
    # "... for mma.m16n8k32 with .u8/.s8 type": a0 to a15
    1: [(0, 0), (0, 1), (0, 2), (0, 3), (8, 0), (8, 1), (8, 2), (8, 3),
        (0, 16), (0, 17), (0, 18), (0, 19), (8, 16), (8, 17), (8, 18), (8, 19)],
}  # fmt: skip
SUMS = [(0, 0), (0, 1), (8, 0), (8, 1)]

SHAPES = {
    "m16n8k8.row.col.f32.f16.f16.f32": ("float16", 8),
    "m16n8k8.row.col.f32.bf16.bf16.f32": ("bfloat16", 8),
    "m16n8k16.row.col.f32.f16.f16.f32": ("float16", 16),
    "m16n8k16.row.col.f32.bf16.bf16.f32": ("bfloat16", 16),
    "m16n8k16.row.col.s32.s8.s8.s32": ("int8", 16),
    "m16n8k32.row.col.s32.s8.s8.s32": ("int8", 32),
    "m16n8k32.row.col.f32.e4m3.e4m3.f32": ("float8_e4m3fn", 32),
}


def run(ground: Ground, folder: Path, body: str, inputs: list[Array], output: TensorSpec) -> Array:
    """What 32 threads write to `d`, given `a`, `b` and `c`, all of them words."""
    parameters = ", ".join(f"int* {name}" for name in [*"abc"[: len(inputs)], "d"])
    source = (
        f'extern "C" __global__ void __launch_bounds__(32) k({parameters}) {{ const int l = threadIdx.x;\n{body}\n}}'
    )
    arguments = tuple(Argument(tuple(i.shape), str(i.dtype)) for i in inputs)
    plan = LaunchPlan(
        (Launch("k", tuple(range(len(inputs) + 1)), (1, 1, 1), (32, 1, 1)),),
        (*arguments, Argument(output.shape, output.dtype)),
    )
    code = compile_simulated(source, "sm_90", folder, {}).path.read_bytes()
    kernel = ground.gpu.kernel(code, plan, inputs, [output])
    try:
        kernel.enqueue(0)
        ground.gpu.synchronize()
        [found] = kernel.outputs()
        return np.asarray(found)
    finally:
        kernel.free()


def registers(matrix: Array, places: list[tuple[int, int]], group: tuple[int, int], lane: tuple[int, int]) -> Array:
    """The registers of 32 lanes [32, n] with the elements of a matrix at `places`, moved by `group` for each four
    lanes and by `lane` within."""
    elements = [
        [matrix[r + n // 4 * group[0] + n % 4 * lane[0], c + n // 4 * group[1] + n % 4 * lane[1]] for r, c in places]
        for n in range(32)
    ]
    return np.ascontiguousarray(np.asarray(elements, matrix.dtype)).view(np.int32)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_of_fragments_is_that_of_the_matrices(shape: str, ground: Ground, tmp_path: Path) -> None:
    name, depth = SHAPES[shape]
    integers = name == "int8"
    dtype: Any = (
        np.dtype(name) if name in ("float16", "int8") else np.dtype(getattr(pytest.importorskip("ml_dtypes"), name))
    )
    rng = np.random.default_rng(1)
    low = -100 if integers else -8
    a, b = (rng.integers(low, -low, size).astype(dtype) for size in ((16, depth), (depth, 8)))
    c = rng.integers(-9, 9, (16, 8)).astype(np.int32 if integers else np.float32)
    beside = 4 // dtype.itemsize
    places = LAYOUTS[dtype.itemsize][: 16 * depth // 32]
    down = [(0, i) for i in range(beside)] + [(0, i + 4 * beside) for i in range(beside)]
    words = [
        registers(a, places, (1, 0), (0, beside)),
        registers(b.T, down[: depth // 4], (1, 0), (0, beside)),
        registers(c, SUMS, (1, 0), (0, 2)),
    ]
    counts = [4, *(w.shape[1] for w in words)]
    numbers = iter(range(sum(counts)))
    groups = ", ".join("{" + ", ".join(f"%{next(numbers)}" for _ in range(count)) + "}" for count in counts)
    kind, sum_type = ("r", "int") if integers else ("f", "float")
    made = ", ".join(f'"={kind}"((({sum_type}*)d)[l * 4 + {i}])' for i in range(4))
    used = [f'"r"({m}[l * {n} + {i}])' for m, n in zip("ab", counts[1:], strict=False) for i in range(n)]
    used += [f'"{kind}"((({sum_type}*)c)[l * 4 + {i}])' for i in range(4)]
    body = f'asm volatile("mma.sync.aligned.{shape} {groups};" : {made} : {", ".join(used)});'
    found = run(ground, tmp_path, body, words, TensorSpec((32, 4), "int32" if integers else "float32"))
    wide = np.int64 if integers else np.float64
    expected = a.astype(wide) @ b.astype(wide) + c
    assert found.view(np.int32).tolist() == registers(expected.astype(c.dtype), SUMS, (1, 0), (0, 2)).tolist()


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix_deals_out_rows(transposed: bool, ground: Ground, tmp_path: Path) -> None:
    """Of four matrices of 8 x 8, whose rows lie in an order that only the addresses tell."""
    matrices = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    order = np.random.default_rng(2).permutation(32)
    layout = ".trans" if transposed else ""
    body = (
        "__shared__ alignas(16) int s[128]; for (int i = 0; i < 4; ++i) s[l * 4 + i] = a[l * 4 + i]; __syncthreads();\n"
        f'asm volatile("ldmatrix.sync.aligned.m8n8.x4{layout}.shared.b16 {{%0, %1, %2, %3}}, [%4];" : '
        + ", ".join(f'"=r"(((unsigned*)d)[l * 4 + {i}])' for i in range(4))
        + ' : "r"((unsigned)__cvta_generic_to_shared(s + b[l] * 4)));'
    )
    rows = np.ascontiguousarray(matrices.reshape(32, 8)[order]).view(np.int32)
    found = run(ground, tmp_path, body, [rows, np.argsort(order).astype(np.int32)], TensorSpec((32, 4), "int32"))
    for lane, number in itertools.product(range(32), range(4)):
        matrix = matrices[number].T if transposed else matrices[number]
        pair = matrix[lane // 4, lane % 4 * 2 : lane % 4 * 2 + 2]
        assert found[lane, number] == int(pair[0]) | int(pair[1]) << 16


ON = PassConfig().replace(Mma(True))
SWIZZLED = ON.replace(Swizzle(True))


def case(made: Workload, sketch: int, config: PassConfig, target: Any = TARGET) -> Case:
    """A candidate of a tensor-core sketch under passes."""
    drawn = next(c for c in cases(made, 4, sketch=sketch) if "wmma::fragment" in c.program.source)
    schedule = TraceApplier(made, generate(made, target), target).apply(drawn.candidate)
    applied = config.applied(schedule.mod["main"], target)
    assert applied.refused == {}
    return Case(made, drawn.candidate, emit(tvm.IRModule({"main": applied.function}), target, made.num_outputs))


PROGRAMS = {
    "half": ("matmul in half of primes", 3, ON), "half, transposed": ("matmul in half", 4, SWIZZLED),
    "bfloat16": ("matmul in bfloat16 of primes", 3, SWIZZLED), "int8": ("matmul in int8", 3, SWIZZLED),
    "int8, transposed": ("matmul in int8", 4, ON),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_candidates_are_right(name: str, ground: Ground) -> None:
    program, sketch, config = PROGRAMS[name]
    made = case(workload(program), sketch, config)
    assert "warp_mma::mma_sync" in made.program.source
    assert "nvcuda" not in made.program.source.rpartition("__launch_bounds__")[2]
    assert ("Swizzled<" in made.program.source) == (config is SWIZZLED)
    assert ground.wrong(made) == ""


def test_sums_in_half_are_right(ground: Ground) -> None:
    made = case(from_prim_func(matmul(32, 48, 64, "float16", "float16"), "sums in half"), 3, ON)
    assert ".f16.f16.f16.f16" in made.program.source
    assert ground.wrong(made) == ""


def test_sabotages_are_seen(ground: Ground) -> None:
    made = next(
        c for c in (case(workload("matmul in half"), sketch, SWIZZLED) for sketch in (3, 4, 5, 6))
        if swapped_fragment(c.program.source)
    )  # fmt: skip
    source = made.program.source
    changes = {
        "registers in another order": ('"r"(a[0]), "r"(a[1])', '"r"(a[1]), "r"(a[0])'),
        "operands of the instruction in another order": ("{%4, %5, %6, %7}", "{%4, %6, %5, %7}"),
        "rows that are read transposed": (".x4.trans.shared", ".x4.shared"),
        "fragments that are not swizzled": (
            "  return tile + offset;\n}\nextern",
            "  return (T*)tile.memory;\n}\nextern",
        ),
    }
    changed = {what: source.replace(*change) for what, change in changes.items()}
    changed["another fragment"] = swapped_fragment(source) or source
    for what, sabotaged in changed.items():
        assert sabotaged != source, what
        assert ground.wrong(made, sabotaged) != "", what


def test_what_has_no_such_instruction_is_refused() -> None:
    made = workload("matmul in half")
    schedule = TraceApplier(made, generate(made, TARGET), TARGET).apply(next(cases(made, 1, sketch=3)).candidate)
    assert mma.why_not(schedule.mod["main"], gpu("sm_75")) == "mma.sync of m16n8k16 needs sm_80, and this is sm_75"
    assert mma.why_not(made.module()["main"], TARGET) == "it computes nothing on tensor cores"
    assert Mma().refusal(schedule.mod["main"], gpu("sm_75")) == ""
    assert not Mma.concerns(workload("matmul").module())


def test_nvcc_takes_the_source(tmp_path: Path) -> None:
    made = case(workload("matmul in int8"), 3, SWIZZLED)
    program: GpuProgram = made.program
    assert compile_cubin(program.source, "sm_90a", tmp_path).kernels["main_kernel"].spill_bytes == 0
