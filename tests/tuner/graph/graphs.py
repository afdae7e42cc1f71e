"""Graphs of a few operators, what they compute, and how to run them, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.target import Target

Array = NDArray[Any]
TARGET = {"kind": "llvm", "num-cores": 1}


def graph(build: Callable[..., Any], *shapes: Sequence[int], dtype: str = "float32") -> tvm.IRModule:
    """A module whose `main` takes inputs of the given shapes; `build(emit, *inputs)` gives its output."""
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(tuple(shape), dtype)) for i, shape in enumerate(shapes)]
    with builder.function("main", params, attrs={"num_input": len(params)}):
        with builder.dataflow():
            result = builder.emit_output(build(builder.emit, *params))
        builder.emit_func_output(result)
    return builder.get()


def operators(module: tvm.IRModule) -> list[str]:
    """The operators of `main` in their order, without `relax.`."""
    return [
        str(binding.value.op.name).removeprefix("relax.")
        for block in module["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, tvm.ir.Call) and isinstance(binding.value.op, tvm.ir.Op)
    ]


def run(module: tvm.IRModule, *inputs: Array) -> Array:
    """What TVM computes without any of our passes."""
    machine = relax.VirtualMachine(tvm.compile(module, Target(TARGET)), tvm.cpu())
    output: Array = machine["main"](*[tvm.runtime.tensor(array) for array in inputs]).numpy()
    return output


def drawn(*shapes: Sequence[int], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(tuple(shape)).astype(np.float32) for shape in shapes]
