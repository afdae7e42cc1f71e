"""Dot-product instructions: offered where the CPU has them, found in programs, in the code, and right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.dots import BITS, DOTS, Dot, copied, dot_of, imported, intrinsic, multiplied, offered, used, widened
from kernels.passes.tensorize import Tensorize
from kernels.reference import Expectation, evaluate, reduction_length, rounding, working_dtype
from kernels.space import Candidate, TraceApplier, generate
from kernels.workload import Workload, from_prim_func, seeded_inputs
from tests.kernels.dot_targets import WITH_DOTS, needs_dots, with_dots
from tests.kernels.programs import llvm

BYTES, BF16 = "vpdpbusd_512", "vdpbf16ps_512"


def _dot(name: str) -> Dot:
    return next(dot for dot in DOTS if dot.name == name)


def product(dot: Dot, rows: int, depth: int, columns: int, copy: bool = False) -> Workload:
    """[rows, depth] by panels of `dot.lanes` columns; with `copy` the kernel copies the left operand at first."""
    padded = -(-depth // dot.steps) * dot.steps
    a = te.placeholder((rows, depth), dot.left, name="a")
    b = te.placeholder((columns // dot.lanes, padded // dot.steps, dot.lanes, dot.steps), dot.right, name="b")
    left = a
    if copy:
        zero = tirx.const(0, dot.copied)
        left = te.compute(
            (rows, padded), lambda i, k: te.if_then_else(k < depth, copied(a[i, k], dot.left), zero), "aligned"
        )
    k = te.reduce_axis((0, padded), "k")

    def element(i: Any, j: Any) -> Any:
        right = b[j // dot.lanes, k // dot.steps, j % dot.lanes, k % dot.steps]
        return te.sum(widened(left[i, k], dot.result) * widened(right, dot.result), axis=k)

    return from_prim_func(te.create_prim_func([a, b, te.compute((rows, columns), element, "matmul")]), "matmul")


def _anchor(workload: Workload) -> Any:
    schedule = Schedule(workload.module())
    return schedule.get(schedule.get_sblock("matmul"))


@pytest.mark.parametrize(
    ("mcpu", "names"),
    [
        ("x86-64-v3", set()),
        ("icelake-server", {"vpdpbusd_512", "vpdpbusd_256", "vpdpwssd_512", "vpdpwssd_256"}),
        ("alderlake", {"vpdpbusd_256", "vpdpwssd_256"}),
        ("znver4", {dot.name for dot in DOTS}),
    ],
)
def test_a_target_offers_what_its_cpu_has(mcpu: str, names: set[str]) -> None:
    offers = offered(Target({"kind": "llvm", "mcpu": mcpu}))
    assert {dot.name for dot in offers} == names
    widths = [dot.lanes for dot in offers if dot.left == "uint8"]
    assert widths == sorted(widths, reverse=True), "the widest first"


def test_features_that_a_hypervisor_hides_are_not_used() -> None:
    masked = Target({"kind": "llvm", "mcpu": "znver4", "mattr": ["-avx512bf16"]})
    assert {dot.left for dot in offered(masked)} == {"uint8", "int16"}
    assert offered(Target("opencl")) == ()


@pytest.mark.parametrize("dot", DOTS, ids=lambda dot: dot.name)
def test_a_product_is_found_and_becomes_the_instruction(dot: Dot) -> None:
    workload = product(dot, 4, 4 * dot.steps, 2 * dot.lanes)
    assert multiplied(_anchor(workload)) == (dot.left, dot.right, dot.steps)
    assert dot_of(_anchor(workload), [dot]) == f"{dot.symbol}.{dot.left}.{dot.right}"
    function = _scheduled(workload, with_dots(), [dot])
    assert [d.name for d in used(function)] == [dot.name]
    text = _assembly(function, WITH_DOTS)
    mnemonic, _, bits = dot.name.partition("_")
    register = {"512": "zmm", "256": "ymm"}[bits]
    assert re.search(rf"\b{mnemonic}\s.*%{register}", text), "the instruction is there"
    assert dot.symbol not in text, "and no call"


def _scheduled(workload: Workload, target: Target, dots: list[Dot]) -> tirx.PrimFunc:
    """By hand: the whole product as one tile."""
    schedule = Schedule(workload.module())
    block = schedule.get_sblock("matmul")
    [dot] = dots
    _, j, k = schedule.get_loops(block)
    outer, lanes = schedule.split(j, [None, dot.lanes])
    reduction, steps = schedule.split(k, [None, dot.steps])
    schedule.reorder(outer, reduction, steps, lanes)
    schedule.decompose_reduction(block, reduction)
    name = dot_of(_anchor(workload), dots)
    assert name is not None
    schedule.tensorize(steps, intrinsic(name))
    return schedule.mod["main"]


def _assembly(function: tirx.PrimFunc, target: Mapping[str, Any]) -> str:
    library = tvm.compile(tvm.IRModule({"main": imported(function)}), target=Target(dict(target)))
    return str(library.mod.inspect_source("asm"))


def test_other_products_are_left_alone() -> None:
    dot = _dot(BYTES)
    a, b = te.placeholder((4, 8), "uint8", name="a"), te.placeholder((2, 16, 4), "int8", name="b")
    k = te.reduce_axis((0, 8), "k")

    def anchor(element: Any, shape: tuple[int, ...] = (4, 16)) -> Any:
        return _anchor(from_prim_func(te.create_prim_func([a, b, te.compute(shape, element, "matmul")]), "matmul"))

    def term(left: Any, right: Any) -> Any:
        return te.sum(left.astype("int32") * right.astype("int32"), axis=k)

    assert dot_of(anchor(lambda i, j: term(a[i, k], b[k // 4, j, k % 4])), [dot])
    assert multiplied(anchor(lambda i, j: term(a[i, 7 - k], b[k // 4, j, k % 4]))) is None, "backwards"
    assert multiplied(anchor(lambda i, j: term(a[i, k], b[k // 4, 15 - j, k % 4]))) is None, "columns backwards"
    assert multiplied(anchor(lambda i, j: te.sum(a[i, k].astype("int32"), axis=k))) is None, "no product"
    assert dot_of(anchor(lambda i, j: term(a[i, k], b[k // 2, j, k % 2]), (4, 16)), [dot]) is None, "other steps"
    narrow = anchor(lambda i, j: term(a[i, k], b[k // 4, j, k % 4]), (4, 12))
    assert dot_of(narrow, [dot]) is None, "12 columns are no vectors"


RUN = [(name, *shape) for name in (BYTES, BF16) for shape in ((6, 16, 32, False), (5, 13, 48, True))]


@needs_dots
@pytest.mark.parametrize(("name", "rows", "depth", "columns", "copy"), RUN)
def test_candidates_are_right_with_the_instruction_and_without(
    name: str, rows: int, depth: int, columns: int, copy: bool
) -> None:
    workload = product(_dot(name), rows, depth, columns, copy)
    space = generate(workload, with_dots())
    assert {sketch.rule for sketch in space.sketches} == {"dot_panels"}, "TVM's rules know nothing of the order"
    assert "tensorize" in space.pass_names
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(3)]
    initial = space.initial_candidates(2)
    plain = Candidate(initial[0].sketch, initial[0].decisions, initial[0].passes.replace(Tensorize()))
    applier = TraceApplier(workload, space, with_dots())
    for candidate in [*initial, plain, *drawn]:
        function = candidate.passes.applied(applier.apply(candidate).mod["main"], with_dots()).function
        on = Tensorize(True) in candidate.passes.settings
        assert [dot.name for dot in used(function)] == ([name] if on else [])
        _check(workload, function, candidate)


def _check(workload: Workload, function: tirx.PrimFunc, candidate: Candidate) -> None:
    inputs, program = seeded_inputs(workload.inputs, 0), workload.module()["main"]
    [expected] = evaluate(program, inputs)
    target = Target(candidate.passes.target_options(WITH_DOTS))
    with tvm.transform.PassContext(opt_level=3, config=candidate.passes.context_options()):
        library = tvm.compile(tvm.IRModule({"main": imported(function)}), target=target)
    [spec] = workload.outputs
    out = tvm.runtime.tensor(np.zeros(spec.shape, spec.dtype))
    library["main"](*[tvm.runtime.tensor(a) for a in inputs], out)
    length, slack = reduction_length(program), rounding(program)[0]
    ok, _, _, reason = Expectation(expected, working_dtype(program), length, slack).check(out.numpy())
    assert ok, f"{candidate.to_text()}: {reason}"


def test_other_targets_have_no_such_sketch() -> None:
    space = generate(product(_dot(BYTES), 8, 16, 32), llvm())
    assert "dot_panels" not in {sketch.rule for sketch in space.sketches}


def test_the_bits_of_a_bfloat16_are_half_of_a_float32() -> None:
    workload = product(_dot(BF16), 3, 5, 16, copy=True)
    assert multiplied(_anchor(workload)) == (BITS, "bfloat16", 2)
    [a, b] = seeded_inputs(workload.inputs, 1)
    [got] = evaluate(workload.module()["main"], [a, b])
    right = b.astype(np.float64).transpose(1, 3, 0, 2).reshape(6, 16)[:5]
    np.testing.assert_allclose(got, a.astype(np.float64) @ right, rtol=1e-12)
