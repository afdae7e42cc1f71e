"""Our own sketch rules: they fit what they are for, nothing else, and what they make is right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi

from kernels.lowering import nodes
from kernels.nests.calls import named
from kernels.reference import Expectation, evaluate, reduction_length, working_dtype
from kernels.space import TraceApplier, generate
from kernels.workload import Workload, from_prim_func, seeded_inputs
from tests.kernels.programs import llvm, small_conv, softmax
from tuner.graph.convolution import Geometry
from tuner.graph.softmax import padded_softmax
from tuner.graph.winograd import convolution


def product(batch: tuple[int, ...] = (), relu: bool = False) -> Workload:
    a, b = te.placeholder((*batch, 12, 20), name="a"), te.placeholder((*batch, 20, 32), name="b")
    k = te.reduce_axis((0, 20), "k")
    out = te.compute(
        (*batch, 12, 32), lambda *i: te.sum(a[(*i[:-1], k)] * b[(*i[:-2], k, i[-1])], axis=k), name="matmul"
    )
    return from_prim_func(te.create_prim_func([a, b, topi.nn.relu(out) if relu else out]), "matmul")


def transposed() -> Workload:
    """B stands with its reduction innermost: no panel to copy."""
    a, b = te.placeholder((12, 20), name="a"), te.placeholder((32, 20), name="b")
    k = te.reduce_axis((0, 20), "k")
    return from_prim_func(
        te.create_prim_func([a, b, te.compute((12, 32), lambda i, j: te.sum(a[i, k] * b[j, k], axis=k))]), "matmul"
    )


def panels(rows: int = 12, columns: int = 32, gelu: bool = False) -> Workload:
    """A product whose right operand stands in panels of 16 columns; rows and columns are padded to 14 and to 16s."""
    padded = (rows + rows % 7, -(-columns // 16) * 16)
    a, b = te.placeholder((rows, 20), name="a"), te.placeholder((padded[1] // 16, 20, 16), name="b")
    k = te.reduce_axis((0, 20), "k")
    out = te.compute(
        padded, lambda i, j: te.sum(a[te.min(i, rows - 1), k] * b[j // 16, k, j % 16], axis=k), name="matmul"
    )
    if padded != (rows, columns):
        out = te.compute((rows, columns), lambda i, j: out[i, j], name="stored")
    if gelu:
        out = topi.multiply(out, topi.sigmoid(topi.multiply(out, 1.7)))
    return from_prim_func(te.create_prim_func([a, b, out]), "matmul")


def made_panels() -> Workload:
    """A batched product whose first stage makes the panels, of a right operand that stands transposed."""
    a, b = te.placeholder((3, 12, 20), name="a"), te.placeholder((32, 3, 20), name="b")
    made = te.compute((3, 2, 20, 16), lambda h, p, k, j: b[p * 16 + j, h, k], name="panels")
    k = te.reduce_axis((0, 20), "k")
    out = te.compute(
        (3, 12, 32), lambda h, i, j: te.sum(a[h, i, k] * made[h, j // 16, k, j % 16], axis=k), name="matmul"
    )
    return from_prim_func(te.create_prim_func([a, b, out]), "matmul")


def element_wise() -> Workload:
    a = te.placeholder((6, 48), name="a")
    return from_prim_func(te.create_prim_func([a, topi.exp(a)]), "exp")


def rows(make: Callable[..., te.Tensor], *shape: int) -> Workload:
    a = te.placeholder(shape, name="a")
    return from_prim_func(te.create_prim_func([a, make(a)]), "rows")


def layer_norm(a: te.Tensor) -> te.Tensor:
    width = float(int(a.shape[-1]))
    centred = topi.subtract(a, topi.divide(topi.sum(a, axis=-1, keepdims=True), width))
    variance = topi.divide(topi.sum(topi.multiply(centred, centred), axis=-1, keepdims=True), width)
    return topi.multiply(centred, topi.rsqrt(topi.add(variance, 1e-5)))


def rms_norm() -> Workload:
    """Its scale is copied by a block of its own that has no rows."""
    a, scale = te.placeholder((5, 48), name="a"), te.placeholder((48,), name="scale")
    return from_prim_func(te.create_prim_func([a, scale, topi.nn.rms_norm(a, scale, [1], 1e-5)]), "rms_norm")


def winograd(size: int, channels: int = 32) -> Workload:
    """A 3x3 convolution of packed data, with a bias and ReLU behind it."""
    geometry = Geometry((1, 32, size, size + 3), (channels, 32, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
    data, bias = te.placeholder((1, 2, size, size + 3, 16), name="data"), te.placeholder((1, channels // 16, 1, 1, 16))
    weight = te.placeholder((6, 6, channels // 16, 2, 16, 16), name="weight")
    out = topi.nn.relu(topi.add(convolution(geometry, 4, 16, 16)(data, weight), bias))
    return from_prim_func(te.create_prim_func([data, weight, bias, out]), "winograd")


FITTING = [
    (product, {"packed"}),
    (lambda: product((3,)), {"packed"}),
    (lambda: product(relu=True), {"packed"}),
    (panels, {"panels"}),
    (lambda: panels(13), {"panels"}),
    (lambda: panels(13, 20, gelu=True), {"panels"}),
    (lambda: panels(1), {"panels", "loops"}),
    (made_panels, {"panels"}),
    (softmax, {"rows", "loops"}),
    (lambda: rows(topi.nn.softmax, 2, 3, 5, 24), {"rows", "loops"}),
    (lambda: rows(lambda a: topi.nn.softmax(topi.multiply(a, 0.125)), 7, 36), {"rows", "loops"}),
    (lambda: rows(lambda a: topi.exp(topi.nn.softmax(a)), 7, 36), {"rows", "loops"}),
    (lambda: rows(layer_norm, 5, 48), {"rows", "loops"}),
    (rms_norm, {"rows", "loops"}),
    (lambda: rows(lambda a: topi.sum(a, axis=-1), 6, 40), {"rows", "loops"}),
    (lambda: rows(lambda a: topi.max(a, axis=(1, 2)), 6, 3, 40), {"rows", "loops"}),
    (lambda: rows(topi.nn.softmax, 1, 40), {"loops"}),  # one row
    (lambda: rows(topi.nn.softmax, 6, 39), {"loops"}),  # no vector divides it
    (lambda: rows(padded_softmax, 6, 39), {"rows", "loops"}),
    (lambda: rows(lambda a: topi.sum(a, axis=0), 40, 6), {"loops"}),  # down the columns
    (lambda: winograd(12), {"winograd", "winograd_fused"}),
    (lambda: winograd(13, 64), {"winograd", "winograd_fused"}),  # tiles stand over the edges
    (transposed, set()),
    (small_conv, set()),
    (element_wise, set()),
]


@pytest.mark.parametrize(("make", "rules"), FITTING)
def test_a_sketch_rule_fits_what_it_is_for(make: Callable[[], Workload], rules: set[str]) -> None:
    space = generate(make(), llvm())
    assert {s.rule for s in space.sketches} - {"tvm"} == rules


def test_rows_leave_padding_to_llvm() -> None:
    """TVM makes single elements of vectors whose lanes branch."""
    workload = rows(padded_softmax, 6, 39)
    space = generate(workload, llvm())
    [number] = [sketch.number for sketch in space.sketches if sketch.rule == "rows"]
    candidate = next(c for c in space.initial_candidates() if c.sketch == number)
    loops = nodes(TraceApplier(workload, space, llvm()).apply(candidate).mod["main"].body, tirx.For)
    vectors = [loop for loop in loops if loop.kind == tirx.ForKind.VECTORIZED]
    assert vectors
    assert not any(named(loop, "prim.if_then_else") for loop in vectors)


def test_what_reduces_along_both_operands_is_no_packed_product() -> None:
    assert not {s.rule for s in generate(transposed(), llvm()).sketches} & {"packed"}


@pytest.mark.parametrize(("make", "rules"), [fitting for fitting in FITTING if fitting[1]])
def test_what_a_sketch_rule_makes_is_right(make: Callable[[], Workload], rules: set[str]) -> None:
    """An initial candidate and two random points of each of our sketches, against numpy in double precision."""
    workload = make()
    space = generate(workload, llvm())
    applier = TraceApplier(workload, space, llvm())
    rng = np.random.default_rng(0)
    wanted = {s.number for s in space.sketches if s.rule in rules}
    drawn = [space.sample(rng, vary_passes=0.0) for _ in range(60)]
    inputs = seeded_inputs(workload.inputs, 0)
    program = workload.module()["main"]
    [expected] = evaluate(program, inputs, 1)
    expectation = Expectation(expected, working_dtype(program), reduction_length(program))
    for number in wanted:
        initial = [c for c in space.initial_candidates(1000) if c.sketch == number]
        assert initial, "a sketch of our own has initial candidates"
        for candidate in [initial[0], *[c for c in drawn if c.sketch == number][:2]]:
            function = candidate.passes.applied(applier.apply(candidate).mod["main"], llvm()).function
            library = tvm.compile(tvm.IRModule({"main": function}), target=llvm())
            arrays = [tvm.runtime.tensor(a) for a in inputs]
            out = tvm.runtime.tensor(np.full(workload.outputs[0].shape, np.nan, dtype=np.float32))
            library["main"](*arrays, out)
            ok, _, _, reason = expectation.check(out.numpy())
            assert ok, f"{candidate.to_text()}: {reason}"
