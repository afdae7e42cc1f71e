"""Products and convolutions of bytes and of bfloat16: packed for dot-product instructions, with what follows inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.target import Target

from kernels.dots import Dot, imported, used
from kernels.reference import Expectation, evaluate, reduction_length, rounding, working_dtype
from kernels.space import TraceApplier, generate
from kernels.workload import TensorSpec, Workload, seeded_inputs
from tests.kernels.dot_targets import WITH_DOTS, needs_dots, with_dots
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, Lowered, clean, lower

Array = np.ndarray

PLAIN = {"kind": "llvm", "num-cores": 2, "mcpu": "x86-64-v3"}
RESULTS = {"uint8": "int32", "int8": "int32", "bfloat16": "float32"}


def _weight(dtype: str, *shape: int) -> Array:
    [array] = seeded_inputs((TensorSpec(shape, "bfloat16" if dtype == "bfloat16" else "int8"),), 3)
    return array


def _model(shape: Sequence[int], dtype: str, anchor: Callable[[Any], Any], channel: Sequence[int]) -> tvm.IRModule:
    """The anchor, and then what quantized and bfloat16 models have behind it: scale, shift, round, clip and cast, or
    bias, activation and cast."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    vector = relax.const(np.linspace(0.5, 1.5, int(np.prod(channel)), dtype=np.float32).reshape(channel))
    with builder.function("main", [x], attrs={"num_input": 1}):
        with builder.dataflow():
            value = builder.emit(anchor(x))
            if dtype == "bfloat16":
                value = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(value, vector))))
                value = builder.emit(relax.op.astype(value, dtype))
            else:
                scaled = relax.op.multiply(builder.emit(relax.op.astype(value, "float32")), vector)
                steps = builder.emit(relax.op.round(relax.op.multiply(builder.emit(scaled), relax.const(0.002))))
                shifted = builder.emit(relax.op.add(steps, relax.const(3.0)))
                value = builder.emit(relax.op.astype(relax.op.clip(shifted, 0.0, 255.0), "uint8"))
            result = builder.emit_output(value)
        builder.emit_func_output(result)
    return builder.finalize()


def _after(sums: Array, dtype: str, channel: Sequence[int]) -> Array:
    """What is behind the anchor in `_model`, of exact sums."""
    vector = np.linspace(0.5, 1.5, int(np.prod(channel)), dtype=np.float32).reshape(channel)
    if dtype == "bfloat16":
        biased: Array = np.maximum(sums + vector, 0)
        return biased
    scaled = sums.astype(np.float32) * vector * np.float32(0.002)
    away = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled)
    clipped: Array = np.clip(away + 3, 0, 255).astype(np.uint8)
    return clipped


def _run(lowered: Lowered, x: Array, target: Target) -> Array:
    machine = relax.VirtualMachine(assemble(lowered, {}, target), tvm.cpu())
    output: Array = machine["main"](tvm.runtime.tensor(x)).numpy()
    return output


def _agree(got: Array, wanted: Array) -> None:
    if got.dtype == np.uint8:
        apart = np.abs(got.astype(int) - wanted)
        assert apart.max() <= 1 and np.count_nonzero(apart) <= 1 + got.size / 256
    else:
        np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=2**-7, atol=2**-7)


PRODUCTS = [
    ("uint8", (12, 32), 48),
    ("uint8", (197, 30), 64),  # rows without divisors, steps that 4 does not divide
    ("int8", (12, 32), 50),  # columns that no vector divides
    ("int8", (2, 9, 7), 32),
    ("int8", (1, 40), 64),  # one row
    ("bfloat16", (13, 32), 48),
    ("bfloat16", (2, 9, 7), 32),
    ("bfloat16", (197, 16), 50),
]


def _product(dtype: str, left: tuple[int, ...], columns: int) -> tuple[tvm.IRModule, Array]:
    weight = _weight(dtype, left[-1], columns)
    constant = relax.const(weight, str(weight.dtype))
    model = _model(left, dtype, lambda x: relax.op.matmul(x, constant, out_dtype=RESULTS[dtype]), (columns,))
    return model, weight


@pytest.mark.parametrize(
    ("case", "target"), [*((case, WITH_DOTS) for case in PRODUCTS), (PRODUCTS[2], PLAIN), (PRODUCTS[6], PLAIN)], ids=str
)
def test_a_product_is_one_kernel_and_right(case: tuple[Any, ...], target: dict[str, Any]) -> None:
    """The untuned program; a CPU without the instructions computes the same."""
    dtype, left, columns = case
    model, weight = _product(dtype, left, columns)
    lowered = lower(clean(model), GraphConfig("NCHW16c"), Target(target))
    [x] = seeded_inputs((TensorSpec(left, dtype),), 1)
    wide = np.float64 if dtype == "bfloat16" else np.int64
    _agree(_run(lowered, x, Target(PLAIN)), _after(x.astype(wide) @ weight.astype(wide), dtype, (columns,)))
    if target is WITH_DOTS:
        [task] = lowered.tasks
        rows = int(np.prod(left[:-1]))
        assert task.workload.flops == 2 * rows * left[-1] * columns, "of the product alone, without what was added"
        assert {sketch.rule for sketch in generate(task.workload, with_dots()).sketches} == {"dot_panels"}


CONVOLUTIONS = [
    # dtype, channels, size, output channels, kernel, stride, padding, groups
    ("uint8", 32, 9, 32, 3, 1, 1, 1),
    ("int8", 16, 9, 48, 3, 2, 1, 1),  # signed bytes, with zeros around them
    ("int8", 32, 7, 32, 3, 1, 1, 2),
    ("uint8", 16, 7, 64, 1, 1, 0, 1),
    ("uint8", 3, 15, 16, 5, 2, 2, 1),  # an image
    ("uint8", 6, 8, 16, 3, 1, 0, 1),
    ("int8", 16, 8, 16, 3, 1, 1, 16),  # depthwise
    ("bfloat16", 16, 9, 32, 3, 1, 1, 1),
    ("bfloat16", 3, 15, 16, 3, 2, 1, 1),
    ("bfloat16", 16, 8, 16, 3, 1, 1, 16),
]


def _convolution(dtype: str, shape: Sequence[int]) -> tuple[tvm.IRModule, Array]:
    channels, size, out, kernel, stride, padding, groups = shape
    weight = _weight(dtype, out, channels // groups, kernel, kernel)
    constant = relax.const(weight, str(weight.dtype))

    def anchor(x: Any) -> Any:
        return relax.op.nn.conv2d(x, constant, stride, padding, 1, groups, out_dtype=RESULTS[dtype])

    return _model((1, channels, size, size), dtype, anchor, (1, out, 1, 1)), weight


@pytest.mark.parametrize(
    ("case", "target"),
    [*((case, WITH_DOTS) for case in CONVOLUTIONS), *((CONVOLUTIONS[n], PLAIN) for n in (1, 5, 7))],
    ids=str,
)
def test_a_convolution_is_one_kernel_and_right(case: tuple[Any, ...], target: dict[str, Any]) -> None:
    dtype, *shape = case
    channels, size, out, _, stride, padding, groups = shape
    model, weight = _convolution(dtype, shape)
    lowered = lower(clean(model), GraphConfig("NCHW16c"), Target(target))
    [x] = seeded_inputs((TensorSpec((1, channels, size, size), dtype),), 1)
    wide = [torch.from_numpy(a.astype(np.float64)) for a in (x, weight)]
    sums = torch.nn.functional.conv2d(wide[0], wide[1], None, stride, padding, 1, groups).numpy()
    _agree(_run(lowered, x, Target(PLAIN)), _after(sums, dtype, (1, out, 1, 1)))
    [kernel] = [task.workload for task in lowered.tasks if "conv2d" in task.workload.name]
    assert kernel.outputs[0].dtype == ("bfloat16" if dtype == "bfloat16" else "uint8"), "what follows is in the kernel"
    if target is WITH_DOTS and groups < channels:
        assert {sketch.rule for sketch in generate(kernel, with_dots()).sketches} == {"dot_convolution"}
        assert not any(task.workload.name == "pack" for task in lowered.tasks), "the kernel reads the image itself"


@pytest.mark.parametrize(
    ("dtype", "fill", "target"), [("uint8", 7, WITH_DOTS), ("int8", -5, WITH_DOTS), ("int8", -5, PLAIN)], ids=str
)
def test_zero_points_around_images_are_put_there_by_the_convolution(
    dtype: str, fill: int, target: dict[str, Any]
) -> None:
    """Between convolutions, where the data are packed, and around the model's input."""
    first, second = _weight("int8", 16, 3, 3, 3), _weight("int8", 32, 16, 3, 3)
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType((1, 3, 8, 9), dtype))
    emit, op, widths = builder.emit, relax.op, [0, 0, 0, 0, 1, 2, 0, 1]
    with builder.function("main", [x], attrs={"num_input": 1}):
        with builder.dataflow():
            value = emit(
                op.nn.conv2d(emit(op.nn.pad(x, widths, "constant", fill)), relax.const(first), out_dtype="int32")
            )
            steps = emit(op.round(emit(op.multiply(emit(op.astype(value, "float32")), relax.const(0.001)))))
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            value = emit(op.astype(emit(op.clip(steps, float(low), float(high))), dtype))
            value = emit(op.nn.pad(value, widths, "constant", fill))
            result = builder.emit_output(op.nn.conv2d(value, relax.const(second), out_dtype="int32"))
        builder.emit_func_output(result)
    lowered = lower(clean(builder.finalize()), GraphConfig("NCHW16c"), Target(target))
    [data] = seeded_inputs((TensorSpec((1, 3, 8, 9), dtype),), 1)

    def convolved(data: Array, weight: Array) -> Array:
        padded = np.pad(data.astype(np.float64), [(0, 0), (0, 0), (1, 2), (0, 1)], constant_values=fill)
        sums: Array = torch.nn.functional.conv2d(
            torch.from_numpy(padded), torch.from_numpy(weight.astype(float))
        ).numpy()
        return sums

    scaled = convolved(data, first).astype(np.float32) * np.float32(0.001)
    between = np.clip(np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled), low, high)
    np.testing.assert_array_equal(_run(lowered, data, Target(PLAIN)), convolved(between, second))
    if target is WITH_DOTS:
        assert not any("pad" in task.workload.name for task in lowered.tasks)


def _candidates(workload: Workload) -> set[Dot]:
    """An initial and a random candidate are right; the instructions that they use."""
    space = generate(workload, with_dots())
    applier = TraceApplier(workload, space, with_dots())
    rng = np.random.default_rng(0)
    inputs, program = seeded_inputs(workload.inputs, 0), workload.module()["main"]
    [expected] = evaluate(program, inputs)
    slack = rounding(program)[0]
    expectation = Expectation(expected, working_dtype(program), reduction_length(program), slack)
    found: set[Dot] = set()
    for candidate in [space.initial_candidates(1)[0], space.sample(rng, vary_passes=0.0)]:
        function = imported(candidate.passes.applied(applier.apply(candidate).mod["main"], with_dots()).function)
        library = tvm.compile(tvm.IRModule({"main": function}), target=with_dots())
        [spec] = workload.outputs
        out = tvm.runtime.tensor(np.zeros(spec.shape, spec.dtype))
        library["main"](*[tvm.runtime.tensor(a) for a in inputs], out)
        ok, _, _, reason = expectation.check(out.numpy())
        assert ok, f"{candidate.to_text()}: {reason}"
        found.update(used(function))
    return found


@needs_dots
@pytest.mark.parametrize(("dtype", "left", "columns"), [PRODUCTS[n] for n in (1, 2, 6)])
def test_candidates_of_a_product_are_right(dtype: str, left: tuple[int, ...], columns: int) -> None:
    model, _ = _product(dtype, left, columns)
    [task] = lower(clean(model), GraphConfig("NCHW16c"), with_dots()).tasks
    _candidates(task.workload)


@needs_dots
@pytest.mark.parametrize("case", [CONVOLUTIONS[n] for n in (1, 2, 4, 8)], ids=str)
def test_candidates_of_a_convolution_are_right(case: tuple[Any, ...]) -> None:
    model, _ = _convolution(case[0], case[1:])
    lowered = lower(clean(model), GraphConfig("NCHW16c"), with_dots())
    [workload] = [task.workload for task in lowered.tasks if "conv2d" in task.workload.name]
    _candidates(workload)


@pytest.mark.parametrize(("target", "attention"), [(WITH_DOTS, False), (WITH_DOTS, True), (PLAIN, False)], ids=str)
def test_attention_in_bfloat16_reads_its_heads_in_place(target: dict[str, Any], attention: bool) -> None:
    """Two products, a softmax between, and nothing that copies; with odd tokens, and scores padded to whole vectors."""
    tokens, heads, width = 37, 3, 32
    shape = (1, tokens, heads * width)
    builder = relax.BlockBuilder()
    params = [relax.Var(name, relax.TensorType(shape, "bfloat16")) for name in "qkv"]
    emit, op = builder.emit, relax.op
    with builder.function("main", params, attrs={"num_input": 3}):
        with builder.dataflow():
            q, k, v = (
                emit(op.permute_dims(emit(op.reshape(x, (1, tokens, heads, width))), [0, 2, 1, 3])) for x in params
            )
            scores = emit(op.matmul(q, emit(op.permute_dims(k, [0, 1, 3, 2])), out_dtype="float32"))
            scaled = emit(op.multiply(scores, relax.const(np.float32(width**-0.5))))
            normalized = emit(op.astype(emit(op.nn.softmax(scaled, -1)), "bfloat16"))
            mixed = emit(op.astype(emit(op.matmul(normalized, v, out_dtype="float32")), "bfloat16"))
            result = builder.emit_output(op.reshape(emit(op.permute_dims(mixed, [0, 2, 1, 3])), shape))
        builder.emit_func_output(result)
    lowered = lower(clean(builder.finalize()), GraphConfig("NCHW16c", attention=attention), Target(target))
    names = sorted(task.workload.name.partition("_")[0] for task in lowered.tasks)
    assert names == ["matmul", "matmul", "softmax"]
    inputs = seeded_inputs((TensorSpec(shape, "bfloat16"),) * 3, 2)
    machine = relax.VirtualMachine(assemble(lowered, {}, Target(PLAIN)), tvm.cpu())
    got = machine["main"](*map(tvm.runtime.tensor, inputs)).numpy().astype(np.float64)
    q, k, v = (x.astype(np.float64).reshape(tokens, heads, width).transpose(1, 0, 2) for x in inputs)
    weights = np.exp(q @ k.transpose(0, 2, 1) * width**-0.5)
    wanted = (weights / weights.sum(axis=-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(shape)
    np.testing.assert_allclose(got, wanted, rtol=2**-6, atol=2**-6)


TWO = [
    # dtypes, steps of the reduction, whether the left operand stands transposed, the instruction
    ("bfloat16", "bfloat16", 24, False, "vdpbf16ps_512"),
    ("bfloat16", "bfloat16", 21, True, "vdpbf16ps_512"),
    ("uint8", "int8", 22, False, "vpdpbusd_512"),
    ("int8", "int8", 21, False, "vpdpwssd_512"),
    ("uint8", "uint8", 24, True, "vpdpwssd_512"),
    ("int16", "int16", 24, False, "vpdpwssd_512"),
]


def _of_two(left: str, right: str, depth: int, transposed: bool) -> tuple[tvm.IRModule, list[TensorSpec]]:
    """A batch of products of two variables."""
    specs = [TensorSpec((3, depth, 13) if transposed else (3, 13, depth), left), TensorSpec((3, depth, 35), right)]
    builder = relax.BlockBuilder()
    a, b = params = [relax.Var(f"x{i}", relax.TensorType(s.shape, s.dtype)) for i, s in enumerate(specs)]
    with builder.function("main", params, attrs={"num_input": 2}):
        with builder.dataflow():
            rows = builder.emit(relax.op.permute_dims(a, [0, 2, 1])) if transposed else a
            product = builder.emit(relax.op.matmul(rows, b, out_dtype="float32" if left == "bfloat16" else "int32"))
            wide = product if left == "bfloat16" else builder.emit(relax.op.astype(product, "float32"))
            result = builder.emit_output(builder.emit(relax.op.multiply(wide, relax.const(0.25))))
        builder.emit_func_output(result)
    return builder.finalize(), specs


@needs_dots
@pytest.mark.parametrize("case", TWO, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_a_product_of_two_variables_makes_its_panels_itself(case: tuple[Any, ...]) -> None:
    *parts, instruction = case
    model, specs = _of_two(*parts)
    [task] = lower(clean(model), GraphConfig("NCHW16c"), with_dots()).tasks
    program = task.workload.module()["main"]
    inputs = seeded_inputs(tuple(specs), 1)
    a, b = (x.astype(np.float64) for x in inputs)
    [got] = evaluate(program, inputs)
    np.testing.assert_allclose(got, (a.transpose(0, 2, 1) if parts[-1] else a) @ b * 0.25, rtol=1e-6)
    assert instruction in {dot.name for dot in _candidates(task.workload)}
