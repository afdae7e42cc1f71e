"""Attention as one kernel: numerics against double precision, whatever the number of rows and the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.target import Target

from kernels.reference import Expectation, evaluate, reduction_length, working_dtype
from kernels.space import TraceApplier, generate
from kernels.workload import Workload, seeded_inputs
from tests.tuner.graph.graphs import Array, drawn, graph
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, Lowered, attention_scores, clean, lower

TARGET = {"kind": "llvm", "num-cores": 2, "mcpu": "x86-64-v3"}
HEADS, WIDTH = 3, 16


def _attention(tokens: int, mask: tuple[int, ...] = ()) -> tvm.IRModule:
    """Attention of one input [1, tokens, 3 * HEADS * WIDTH], which has queries, keys and values side by side."""

    def build(emit: Any, x: Any, *masks: Any) -> Any:
        op = relax.op
        parts = emit(op.split(x, 3, axis=2))
        heads = [
            emit(op.permute_dims(emit(op.reshape(emit(relax.TupleGetItem(parts, i)), (1, tokens, HEADS, WIDTH))), axes))
            for i, axes in enumerate(([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        ]
        scores = emit(op.multiply(emit(op.matmul(heads[0], heads[1])), relax.const(np.float32(WIDTH**-0.5))))
        scores = emit(op.add(scores, masks[0])) if masks else scores
        return op.matmul(emit(op.nn.softmax(scores, -1)), heads[2])

    return clean(graph(build, (1, tokens, 3 * HEADS * WIDTH), *([mask] if mask else [])))


def _expected(x: Array, mask: Array | float = 0.0) -> Array:
    tokens = x.shape[1]
    q, k, v = x.astype(np.float64).reshape(tokens, 3, HEADS, WIDTH).transpose(1, 2, 0, 3)
    scores = q @ k.transpose(0, 2, 1) * WIDTH**-0.5 + mask
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    result: Array = powers / powers.sum(-1, keepdims=True) @ v
    return result


def _lowered(module: tvm.IRModule) -> Lowered:
    return lower(module, GraphConfig("NCHW8c", attention=True), Target(TARGET))


def _run(lowered: Lowered, *inputs: Array) -> Array:
    machine = relax.VirtualMachine(assemble(lowered, {}, Target(TARGET)), tvm.cpu())
    output: Array = machine["main"](*[tvm.runtime.tensor(a) for a in inputs]).numpy()[0]
    return output


@pytest.mark.parametrize("tokens", [16, 13, 29])
def test_attention_is_one_kernel_whatever_its_rows(tokens: int) -> None:
    lowered = _lowered(_attention(tokens))
    [x] = drawn((1, tokens, 3 * HEADS * WIDTH))
    np.testing.assert_allclose(_run(lowered, x), _expected(x), rtol=1e-5, atol=1e-5)
    assert [t.workload.name for t in lowered.tasks] == [f"attention_3x{tokens}x16_by_3x{tokens}x16"]
    assert len(lowered.kernels_of_attention) == 1


@pytest.mark.parametrize("tokens", [1, 5])
def test_a_few_rows_are_left_as_they_are(tokens: int) -> None:
    lowered = _lowered(_attention(tokens))
    [x] = drawn((1, tokens, 3 * HEADS * WIDTH))
    np.testing.assert_allclose(_run(lowered, x), _expected(x), rtol=1e-5, atol=1e-5)
    assert not lowered.kernels_of_attention


@pytest.mark.parametrize("shape", [(1, 1, 13, 13), (1, HEADS, 13, 13), (1, 1, 1, 13), (13,), (1, 1, 13, 1)])
def test_masks_of_every_shape(shape: tuple[int, ...]) -> None:
    lowered = _lowered(_attention(13, shape))
    x, mask = drawn((1, 13, 3 * HEADS * WIDTH), shape)
    if len(shape) == 4 and shape[-2:] == (13, 13):
        mask = mask + np.triu(np.full((13, 13), -np.inf, dtype=np.float32), 1)
    np.testing.assert_allclose(_run(lowered, x, mask), _expected(x, mask.reshape(shape[-3:])), rtol=1e-5, atol=1e-5)
    assert len(lowered.kernels_of_attention) == 1


def test_rows_that_a_mask_hides_altogether_are_means_of_the_values() -> None:
    """With the least number as a mask, as PyTorch has it; the columns that were added get nothing."""
    lowered = _lowered(_attention(13, (1, 1, 1, 13)))
    [x] = drawn((1, 13, 3 * HEADS * WIDTH))
    hidden = np.full((1, 1, 1, 13), np.finfo(np.float32).min, dtype=np.float32)
    values = x.reshape(13, 3, HEADS, WIDTH)[:, 2].transpose(1, 0, 2)
    expected = np.broadcast_to(values.astype(np.float64).mean(1, keepdims=True), values.shape)
    np.testing.assert_allclose(_run(lowered, x, hidden), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tokens", "mask"), [(16, ()), (29, (1, 1, 29, 29))])
def test_candidates_are_right(tokens: int, mask: tuple[int, ...]) -> None:
    workload = next(t.workload for t in _lowered(_attention(tokens, mask)).tasks if "attention" in t.workload.name)
    space = generate(workload, Target(TARGET))
    assert [sketch.rule for sketch in space.sketches] == ["attention"]
    rng = np.random.default_rng(0)
    initial = space.initial_candidates(1000)
    chosen = [initial[0], initial[-1], *(space.sample(rng, vary_passes=0.0) for _ in range(2))]
    assert np.isfinite(space.encodings(chosen)).all()
    _check(workload, TraceApplier(workload, space, Target(TARGET)), chosen)


def _check(workload: Workload, applier: TraceApplier, candidates: list[Any]) -> None:
    inputs = seeded_inputs(workload.inputs, 0)
    program = workload.module()["main"]
    [expected] = evaluate(program, inputs, 1)
    expectation = Expectation(expected, working_dtype(program), reduction_length(program))
    for candidate in candidates:
        function = candidate.passes.applied(applier.apply(candidate).mod["main"], Target(TARGET)).function
        library = tvm.compile(tvm.IRModule({"main": function}), target=Target(TARGET))
        out = tvm.runtime.tensor(np.full(workload.outputs[0].shape, np.nan, dtype=np.float32))
        library["main"](*[tvm.runtime.tensor(a) for a in inputs], out)
        ok, _, _, reason = expectation.check(out.numpy())
        assert ok, f"{candidate.to_text()}: {reason}"


def test_weights_that_are_used_twice_stay_a_kernel() -> None:
    def build(emit: Any, q: Any, k: Any, v: Any) -> Any:
        op = relax.op
        weights = emit(op.nn.softmax(emit(op.matmul(q, emit(op.permute_dims(k, [0, 2, 1])))), -1))
        return relax.Tuple([emit(op.matmul(weights, v)), weights])

    module = clean(graph(build, *[(3, 16, 16)] * 3))
    assert not _lowered(module).kernels_of_attention


def test_the_scores_of_attention_are_known_before_lowering() -> None:
    assert attention_scores(_attention(13), Target(TARGET)) >= 13 * 13
    assert not attention_scores(_attention(13), Target({"kind": "cuda", "arch": "sm_90a"}))
    assert not attention_scores(clean(graph(lambda emit, x: relax.op.nn.softmax(x, -1), (4, 16))), Target(TARGET))
