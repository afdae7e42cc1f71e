"""Reshapes vanish between operators, and what is left costs nothing; TVM without our passes is the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.target import Target

from tests.tuner.graph.graphs import TARGET, drawn, graph, operators, run
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, clean, lower

op = relax.op
ROWS = relax.const(np.linspace(-1, 1, 8).astype(np.float32), "float32")
TABLE = relax.const(np.linspace(-1, 1, 48).reshape(1, 1, 6, 8).astype(np.float32), "float32")


def flat_product(emit: Any, x: Any) -> Any:
    """A matrix product of all rows, seen as [1, 6, 8] again: what frameworks export for a linear layer."""
    weight = relax.const(np.linspace(-1, 1, 64).reshape(8, 8).astype(np.float32), "float32")
    return emit(op.reshape(emit(op.matmul(emit(op.reshape(x, (6, 8))), weight)), (1, 6, 8)))


def heads(emit: Any, x: Any) -> Any:
    return emit(
        op.reshape(emit(op.matmul(emit(op.reshape(x, (3, 6, 8))), emit(op.reshape(x, (3, 8, 6))))), (1, 3, 6, 6))
    )


Build = Callable[[Any, Any], Any]
ONE = (1, 6, 8)
CASES: dict[str, tuple[Build, tuple[int, ...], list[str]]] = {
    "activation": (
        lambda emit, x: flat_product(emit, emit(op.nn.gelu(flat_product(emit, x)))),
        ONE,
        ["reshape", "matmul", "nn.gelu", "matmul", "reshape"],
    ),
    "residual": (
        lambda emit, x: flat_product(emit, emit(op.add(flat_product(emit, x), x))),
        ONE,
        ["reshape", "matmul", "add", "matmul", "reshape"],
    ),
    "layer norm": (
        lambda emit, x: emit(op.nn.layer_norm(flat_product(emit, x), ROWS, ROWS, [-1])),
        ONE,
        ["reshape", "matmul", "nn.layer_norm", "reshape"],
    ),
    "bias in three dimensions": (
        lambda emit, x: emit(op.add(flat_product(emit, x), ROWS)),
        ONE,
        ["reshape", "matmul", "add", "reshape"],
    ),
    "mean and scale": (
        lambda emit, x: emit(
            op.multiply(
                flat_product(emit, x), emit(op.rsqrt(emit(op.mean(flat_product(emit, x), [-1], keepdims=True))))
            )
        ),
        ONE,
        ["reshape", "matmul", "mean", "rsqrt", "multiply", "reshape"],
    ),
    "mask and softmax": (
        lambda emit, x: emit(op.nn.softmax(emit(op.multiply(heads(emit, x), relax.const(0.5, "float32"))), -1)),
        (3, 6, 8),
        ["reshape", "matmul", "multiply", "nn.softmax", "reshape"],
    ),
    "softmax along another axis": (
        lambda emit, x: emit(op.nn.softmax(heads(emit, x), 1)),
        (3, 6, 8),
        ["reshape", "matmul", "reshape", "nn.softmax"],
    ),
    "another shape with the same rows": (
        lambda emit, x: emit(op.nn.softmax(emit(op.add(emit(op.reshape(emit(op.abs(x)), (2, 3, 8))), ROWS)), -1)),
        (6, 8),
        ["abs", "add", "nn.softmax", "reshape"],
    ),
    "another shape and a table": (
        lambda emit, x: emit(op.multiply(emit(op.reshape(emit(op.abs(x)), (2, 3, 6, 8))), TABLE)),
        (6, 6, 8),
        ["abs", "reshape", "multiply"],
    ),
    "an image beside a view": (
        lambda emit, x: emit(op.add(emit(op.abs(x)), emit(op.reshape(flat_product(emit, x), (1, 2, 3, 8))))),
        (1, 2, 3, 8),
        ["abs", "reshape", "matmul", "reshape", "add"],
    ),
    "transposes that cancel": (
        lambda emit, x: emit(op.permute_dims(emit(op.permute_dims(emit(op.abs(x)), [2, 0, 1])), [1, 2, 0])),
        (3, 6, 8),
        ["abs"],
    ),
    "two transposes": (
        lambda emit, x: emit(op.permute_dims(emit(op.permute_dims(emit(op.abs(x)), [2, 0, 1])), [0, 2, 1])),
        (3, 6, 8),
        ["abs", "permute_dims"],
    ),
    "a transpose of unit axes": (
        lambda emit, x: emit(op.abs(emit(op.permute_dims(emit(op.abs(x)), [1, 0, 2])))),
        ONE,
        ["abs", "abs", "reshape"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_reshapes_move_and_the_output_stays(name: str) -> None:
    build, shape, left = CASES[name]
    module = graph(build, shape)
    cleaned = clean(module)
    inputs = drawn(shape)
    expected = run(module, *inputs)
    assert operators(cleaned) == left
    np.testing.assert_allclose(run(cleaned, *inputs), expected, rtol=1e-5, atol=1e-6)
    lowered = lower(cleaned, GraphConfig(), Target(TARGET))
    assert not any(task.name == "reshape" for task in lowered.tasks)
    machine = relax.VirtualMachine(assemble(lowered, {}, Target(TARGET)), tvm.cpu())
    first = machine["main"](*map(tvm.runtime.tensor, inputs))
    machine["main"](*map(tvm.runtime.tensor, drawn(shape, seed=1)))  # must not write into the first output
    np.testing.assert_allclose(first.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_an_output_does_not_share_memory_with_an_input() -> None:
    module = graph(lambda emit, x: emit(op.reshape(x, (8, 6))), (6, 8))
    lowered = lower(clean(module), GraphConfig(), Target(TARGET))
    assert [task.name for task in lowered.tasks] == ["reshape"]


def test_a_slice_is_no_reshape() -> None:
    module = graph(lambda emit, x: emit(op.strided_slice(x, [0], [0], [3])), (6, 8))
    inputs = drawn((6, 8))
    lowered = lower(clean(module), GraphConfig(), Target(TARGET))
    machine = relax.VirtualMachine(assemble(lowered, {}, Target(TARGET)), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(inputs[0])).numpy(), inputs[0][:3])
