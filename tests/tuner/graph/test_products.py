"""Products, packed and read in place: numerics against numpy in double precision, whatever follows or precedes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.target import Target

from kernels.reference import Expectation, evaluate, reduction_length, working_dtype
from kernels.space import TraceApplier, generate
from kernels.workload import Workload, seeded_inputs
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, Lowered, clean, lower
from tuner.graph.panels import Tiling

Array = np.ndarray
Build = Callable[[relax.BlockBuilder, Sequence[Any]], Any]

TARGET = {"kind": "llvm", "num-cores": 2, "mcpu": "x86-64-v3"}
RNG = np.random.default_rng(0)


def _random(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def _model(shapes: Sequence[Sequence[int]], build: Build) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", params, attrs={"num_input": len(params)}):
        with builder.dataflow():
            result = builder.emit_output(build(builder, params))
        builder.emit_func_output(result)
    return builder.finalize()


def _lowered(shapes: Sequence[Sequence[int]], build: Build) -> Lowered:
    return lower(clean(_model(shapes, build)), GraphConfig("NCHW8c"), Target(TARGET))


def _run(lowered: Lowered, inputs: Sequence[Array]) -> Array:
    machine = relax.VirtualMachine(assemble(lowered, {}, Target(TARGET)), tvm.cpu())
    output: Array = machine["main"](*[tvm.runtime.tensor(a) for a in inputs]).numpy()
    return output


def _names(lowered: Lowered) -> list[str]:
    return [task.workload.name for task in lowered.tasks]


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    normalized: Array = e / e.sum(axis=-1, keepdims=True)
    return normalized


SHAPES = [
    ((1, 40), 64),  # one row
    ((5, 40), 64),  # few rows: all in registers
    ((1, 13, 24), 32),  # a batch of one
    ((2, 19, 24), 48),  # rows without divisors, in two batches
    ((128, 16), 96),
    ((197, 8), 16),
    ((17, 24), 50),  # no vector divides the columns
    ((3, 24), 50),
]


@pytest.mark.parametrize(("left", "columns"), SHAPES)
def test_a_product_with_constant_weights_bias_and_activation(left: tuple[int, ...], columns: int) -> None:
    weight, bias = _random(left[-1], columns), _random(columns)

    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        rows = relax.op.reshape(params[0], (-1 if len(left) < 2 else int(np.prod(left[:-1])), left[-1]))
        product = builder.emit(relax.op.matmul(builder.emit(rows), relax.const(weight)))
        total = builder.emit(relax.op.add(product, relax.const(bias)))
        return relax.op.nn.relu(builder.emit(relax.op.reshape(total, (*left[:-1], columns))))

    lowered = _lowered([left], build)
    x = _random(*left)
    expected = np.maximum(x.astype(np.float64) @ weight + bias, 0)
    np.testing.assert_allclose(_run(lowered, [x]), expected, rtol=1e-5, atol=1e-5)
    rows = int(np.prod(left[:-1]))
    product = f"matmul_{rows}x{left[-1]}_by_{left[-1]}x{columns}_add_relu"
    assert [n for n in _names(lowered) if n != "reshape"] == [product], "a reshape keeps nothing out of the product"
    task = next(t for t in lowered.tasks if t.workload.name == product)
    assert task.workload.origin["a"] == [rows, left[-1]] and task.workload.origin["b"] == [left[-1], columns]


@pytest.mark.parametrize(("left", "columns"), SHAPES)
def test_every_kind_of_candidate_of_a_product_is_right(left: tuple[int, ...], columns: int) -> None:
    weight, bias = _random(left[-1], columns), _random(columns)

    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        product = builder.emit(relax.op.matmul(params[0], relax.const(weight)))
        return relax.op.nn.gelu(builder.emit(relax.op.add(product, relax.const(bias))))

    [workload] = [t.workload for t in _lowered([left], build).tasks if "matmul" in t.workload.name]
    _check_candidates(workload)


def _check_candidates(workload: Workload) -> None:
    """Initial candidates and random ones of the sketch for panels."""
    space = generate(workload, Target(TARGET))
    applier = TraceApplier(workload, space, Target(TARGET))
    [number] = [s.number for s in space.sketches if s.rule == "panels"]
    initial = [c for c in space.initial_candidates(1000) if c.sketch == number]
    assert space.initial_candidates(1)[0].sketch == number
    rng = np.random.default_rng(0)
    drawn = [c for c in (space.sample(rng, vary_passes=0.0) for _ in range(30)) if c.sketch == number]
    inputs = seeded_inputs(workload.inputs, 0)
    program = workload.module()["main"]
    [expected] = evaluate(program, inputs, 1)
    expectation = Expectation(expected, working_dtype(program), reduction_length(program))
    for candidate in [*initial[:2], *drawn[:2]]:
        function = candidate.passes.applied(applier.apply(candidate).mod["main"], Target(TARGET)).function
        library = tvm.compile(tvm.IRModule({"main": function}), target=Target(TARGET))
        out = tvm.runtime.tensor(np.full(workload.outputs[0].shape, np.nan, dtype=np.float32))
        library["main"](*[tvm.runtime.tensor(a) for a in inputs], out)
        ok, _, _, reason = expectation.check(out.numpy())
        assert ok, f"{candidate.to_text()}: {reason}"


def _attention(
    batch: int, tokens: int, heads: int, width: int, biased: bool, masked: bool
) -> tuple[list[tuple[int, ...]], Build, Callable[[Sequence[Array]], Array]]:
    """Self-attention with an output projection and a residual, as models are exported."""
    hidden = heads * width
    weights = [_random(hidden, hidden) / np.float32(hidden**0.5) for _ in range(4)]
    biases = [_random(hidden) for _ in range(4)]
    shapes: list[tuple[int, ...]] = [(batch, tokens, hidden), *([(batch, 1, 1, tokens)] if masked else [])]

    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        emit, op = builder.emit, relax.op
        flat = emit(op.reshape(params[0], (batch * tokens, hidden)))

        def projected(i: int) -> Any:
            out = emit(op.matmul(flat, relax.const(weights[i])))
            out = emit(op.add(out, relax.const(biases[i]))) if biased else out
            split = emit(op.reshape(out, (batch, tokens, heads, width)))
            return emit(op.permute_dims(split, [0, 2, 1, 3]))

        q, k, v = (projected(i) for i in range(3))
        scores = emit(op.matmul(q, emit(op.permute_dims(k, [0, 1, 3, 2]))))
        scores = emit(op.multiply(scores, relax.const(np.float32(width**-0.5))))
        scores = emit(op.add(scores, params[1])) if masked else scores
        context = emit(op.matmul(emit(op.nn.softmax(scores, -1)), v))
        context = emit(op.reshape(emit(op.permute_dims(context, [0, 2, 1, 3])), (batch * tokens, hidden)))
        out = emit(op.matmul(context, relax.const(weights[3])))
        return op.add(emit(op.reshape(out, (batch, tokens, hidden))), params[0])

    def reference(inputs: Sequence[Array]) -> Array:
        x = inputs[0].astype(np.float64)
        q, k, v = (
            (x @ weights[i] + biases[i] * biased).reshape(batch, tokens, heads, width).transpose(0, 2, 1, 3)
            for i in range(3)
        )
        scores = q @ k.transpose(0, 1, 3, 2) * width**-0.5 + (inputs[1] if masked else 0)
        context = (_softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(batch, tokens, hidden)
        result: Array = context @ weights[3] + x
        return result

    return shapes, build, reference


@pytest.mark.parametrize(
    ("batch", "tokens", "biased", "masked"),
    [(1, 16, True, False), (1, 16, False, True), (1, 13, True, True), (2, 19, True, True), (1, 4, True, False)],
)
def test_attention_reads_its_operands_in_place(batch: int, tokens: int, biased: bool, masked: bool) -> None:
    shapes, build, reference = _attention(batch, tokens, 3, 16, biased, masked)
    lowered = _lowered(shapes, build)
    inputs = [_random(*shape) for shape in shapes]
    np.testing.assert_allclose(_run(lowered, inputs), reference(inputs), rtol=1e-4, atol=1e-4)
    names = _names(lowered)
    rows = batch * tokens
    assert f"matmul_{rows}x48_by_48x144" + "_add" * biased in names, "three projections are one product"
    if tokens >= 8:
        assert not [n for n in names if "transpose" in n or "slice" in n]


def test_operands_that_are_scaled_before_their_product_are_read_in_place() -> None:
    """As exporters write scaled dot-product attention: each operand times the root of the scale."""
    weights = [_random(48, 48) for _ in range(2)]

    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        emit, op = builder.emit, relax.op
        root = relax.const(np.float32(0.5))

        def head(weight: Array, axes: Sequence[int]) -> Any:
            split = emit(op.reshape(emit(op.matmul(params[0], relax.const(weight))), (16, 3, 16)))
            return emit(op.permute_dims(split, axes))

        q = emit(op.multiply(head(weights[0], [1, 0, 2]), root))
        k = emit(op.divide(head(weights[1], [1, 2, 0]), relax.const(np.float32(4.0))))
        return op.matmul(q, k)

    lowered = _lowered([(16, 48)], build)
    x = _random(16, 48)
    q, k = ((x.astype(np.float64) @ w).reshape(16, 3, 16) for w in weights)
    expected = 0.125 * q.transpose(1, 0, 2) @ k.transpose(1, 2, 0)
    np.testing.assert_allclose(_run(lowered, [x]), expected, rtol=1e-4, atol=1e-3)
    assert sorted(_names(lowered)) == ["matmul_16x48_by_48x96", "matmul_3x16x16_by_3x16x16_multiply"]


def test_candidates_of_attention_are_right() -> None:
    shapes, build, _ = _attention(2, 19, 3, 16, True, True)
    workloads = [t.workload for t in _lowered(shapes, build).tasks if "matmul" in t.workload.name]
    assert len(workloads) == 4
    for workload in workloads:
        _check_candidates(workload)


def test_a_row_that_a_mask_hides_altogether_is_as_it_was() -> None:
    """Such rows are uniform over the tokens that there are: columns that were added get nothing."""
    shapes, build, reference = _attention(1, 13, 3, 16, True, True)
    inputs = [_random(*shapes[0]), np.full(shapes[1], np.finfo(np.float32).min, dtype=np.float32)]
    with np.errstate(over="ignore"):
        expected = reference(inputs)
    np.testing.assert_allclose(_run(_lowered(shapes, build), inputs), expected, rtol=1e-4, atol=1e-4)


def test_projections_that_are_not_only_multiplied_stay_apart() -> None:
    gate, up = _random(16, 32), _random(16, 32)

    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        a = builder.emit(relax.op.matmul(params[0], relax.const(gate)))
        b = builder.emit(relax.op.matmul(params[0], relax.const(up)))
        return relax.op.multiply(builder.emit(relax.op.nn.silu(a)), b)

    lowered = _lowered([(9, 16)], build)
    x = _random(9, 16)
    a, b = x.astype(np.float64) @ gate, x.astype(np.float64) @ up
    np.testing.assert_allclose(_run(lowered, [x]), a / (1 + np.exp(-a)) * b, rtol=1e-4, atol=1e-5)
    assert sum(n.count("matmul_9x16_by_16x32") for n in _names(lowered)) >= 1
    assert not [n for n in _names(lowered) if "16x64" in n]


def test_a_transposed_result_is_stored_transposed_and_read_twice() -> None:
    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        product = builder.emit(relax.op.matmul(params[0], params[1]))
        swapped = builder.emit(relax.op.permute_dims(product, [0, 2, 1]))
        total = builder.emit(relax.op.sum(swapped, axis=-1, keepdims=True))
        return relax.op.add(builder.emit(relax.op.multiply(swapped, total)), builder.emit(relax.op.sum(product)))

    x, y = _random(2, 9, 12), _random(2, 12, 16)
    product = x.astype(np.float64) @ y
    swapped = product.transpose(0, 2, 1)
    expected = swapped * swapped.sum(-1, keepdims=True) + product.sum()
    np.testing.assert_allclose(_run(_lowered([(2, 9, 12), (2, 12, 16)], build), [x, y]), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("axis", [-1, 2])
def test_layer_norm_and_split_see_through_reshapes(axis: int) -> None:
    """One wide product cut in three, as GPT-2 has it, after a layer norm."""
    weight, gamma = _random(48, 144), _random(48)

    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        emit, op = builder.emit, relax.op
        first = emit(op.reshape(emit(op.matmul(params[0], relax.const(np.eye(48, dtype=np.float32)))), (1, 16, 48)))
        normal = emit(op.nn.layer_norm(first, relax.const(gamma), relax.const(np.zeros(48, np.float32)), axes=[axis]))
        wide = emit(op.matmul(normal, relax.const(weight)))
        q, k, v = (
            emit(op.permute_dims(emit(op.reshape(part, (1, 16, 3, 16))), [0, 2, 1, 3]))
            for part in emit(op.split(wide, 3, axis=-1))
        )
        scores = emit(op.matmul(q, emit(op.permute_dims(k, [0, 1, 3, 2]))))
        return op.matmul(emit(op.nn.softmax(scores, -1)), v)

    x = _random(16, 48)
    centred = x.astype(np.float64) - x.mean(-1, keepdims=True, dtype=np.float64)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma
    q, k, v = ((normal @ weight)[:, i * 48 : i * 48 + 48].reshape(16, 3, 16).transpose(1, 0, 2) for i in range(3))
    expected = (_softmax(q @ k.transpose(0, 2, 1)) @ v)[None]
    lowered = _lowered([(16, 48)], build)
    np.testing.assert_allclose(_run(lowered, [x]), expected, rtol=1e-3, atol=1e-3)
    assert not [n for n in _names(lowered) if "split" in n or "transpose" in n]


def test_whole_numbers_behind_a_reshape_keep_their_type_and_empty_tensors_their_shape() -> None:
    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        emit, op = builder.emit, relax.op
        product = emit(op.matmul(params[0], relax.const(np.eye(16, dtype=np.float32))))
        numbers = emit(op.astype(emit(op.reshape(product, (1, 9, 16))), "int64"))
        large = emit(op.add(emit(op.reshape(numbers, (9, 16))), relax.const(np.array([2**40], np.int64), "int64")))
        nothing = emit(op.reshape(emit(op.strided_slice(params[0], [0], [0], [0])), (0, 4, 4)))
        return op.add(large, emit(op.astype(emit(op.sum(nothing)), "int64")))

    x = np.arange(144, dtype=np.float32).reshape(9, 16)
    assert np.array_equal(_run(_lowered([(9, 16)], build), [x]), np.arange(144).reshape(9, 16) + 2**40)


@pytest.mark.parametrize(
    ("rows", "columns", "lanes", "tiling"),
    [
        (197, 384, 16, Tiling(198, 384, 32)),
        (128, 768, 16, Tiling(128, 768, 32)),
        (1, 768, 16, Tiling(1, 768, 64)),
        (197, 208, 16, Tiling(198, 208, 16)),
        (197, 384, 8, Tiling(198, 384, 16)),
    ],
)
def test_tilings_leave_few_rows_and_columns_unused(rows: int, columns: int, lanes: int, tiling: Tiling) -> None:
    assert Tiling.of(rows, columns, lanes) == tiling


def test_products_for_other_devices_stay_as_they_are() -> None:
    def build(builder: relax.BlockBuilder, params: Sequence[Any]) -> Any:
        return relax.op.matmul(params[0], relax.const(np.ones((16, 32), np.float32)))

    target = Target({"kind": "cuda", "arch": "sm_90a"})
    lowered = lower(clean(_model([(16, 16)], build)), GraphConfig("NCHW"), target)
    assert _names(lowered) == ["matmul_16x16_by_16x32"]
    assert [spec.shape for spec in lowered.tasks[0].workload.args] == [(16, 16), (16, 32), (16, 32)]
