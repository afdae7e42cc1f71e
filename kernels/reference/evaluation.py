"""Evaluates a whole function, block after block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from kernels.reference.blocks import LeafBlock, extent_of, leaf_block, root_block, sequence
from kernels.reference.domain import Array, Unsupported, chunks
from kernels.reference.dtypes import storage_dtype
from kernels.reference.expressions import NEAR_ONE, Scope, loads_from, subexpressions, write
from kernels.reference.reductions import run_reduction
from kernels.tensors import scale_of


def evaluate(func: tirx.PrimFunc, inputs: Sequence[Array], num_outputs: int = 1, shift: float = 0.0) -> list[Array]:
    """The outputs of an unscheduled function, float64 for floating point. With `shift` exponentials and their like have
    that relative error, but inside of reductions.

    `inputs` have the shapes and dtypes of the function's first arguments (ValueError otherwise) and are not changed.
    Raises Unsupported when there is no rule for a part of the program.
    """
    params = list(func.params)
    split = len(params) - num_outputs
    if len(inputs) != split:
        raise ValueError(f"{len(inputs)} inputs for {split} arguments")
    root = root_block(func)
    arrays: dict[Any, Array] = {}
    for param, value in zip(params, inputs, strict=False):
        shape = tuple(extent_of(n) for n in param.shape)
        if value.shape != shape or str(value.dtype) != str(param.dtype):
            raise ValueError(f"{param.name} is {param.dtype}{shape}, given {value.dtype}{value.shape}")
        arrays[param] = np.asarray(value, order="C")
    for buffer in (*root.alloc_buffers, *params[split:]):
        storage = storage_dtype(str(buffer.dtype))
        empty = np.nan if storage.kind == "f" else 0  # what is never written must not look right
        arrays[buffer] = np.full(tuple(extent_of(n) for n in buffer.shape), empty, storage)
    with np.errstate(all="ignore"):
        for statement in sequence(root.body):
            _run(leaf_block(statement), arrays, shift)
    return [arrays[p] for p in params[split:]]


_SHIFT = 2.0**-30


def passing_sizes(func: tirx.PrimFunc, inputs: Sequence[Array], outputs: Sequence[Array]) -> tuple[float, ...]:
    """For each output the size of the numbers on the way whose relative errors reach it, where exponentials and their
    like are concerned, else 0: the last steps of a GELU subtract numbers near one, and -1e-9 times that is left.

    `outputs` are what `evaluate` gives for the `inputs`. By what outputs change where those functions have a small
    relative error. Integers have no such size.
    """
    if not any(map(_is_near_one, _calls(func))):
        return (0.0,) * len(outputs)
    moved = evaluate(func, inputs, len(outputs), _SHIFT)
    with np.errstate(all="ignore"):
        return tuple(
            scale_of((got - want) / _SHIFT) if want.dtype.kind == "f" else 0.0
            for got, want in zip(moved, outputs, strict=True)
        )


def _calls(func: tirx.PrimFunc) -> Iterator[Any]:
    for statement in sequence(root_block(func).body):
        for store in leaf_block(statement).body:
            yield from (e for e in subexpressions(store.value, into_loads=False) if isinstance(e, tvm.ir.Call))


def _is_near_one(call: Any) -> bool:
    return str(getattr(call.op, "name", "")).rpartition(".")[2] in NEAR_ONE


def _run(block: LeafBlock, arrays: Mapping[Any, Array], shift: float) -> None:
    for store in block.stores:
        if store.buffer not in arrays:
            raise Unsupported(f"a store to unknown buffer {store.buffer.name}")
    if any(atom.extent == 0 and not atom.reduce for atom in block.domain.atoms):
        return
    if block.init:
        run_reduction(block, arrays)
        return
    outputs = [s.buffer for s in block.stores]
    if any(loads_from(s.value, outputs) for s in block.body) or block.domain.spatial < len(block.domain.atoms):
        raise Unsupported("a block that updates in place")
    for ranges in chunks(block.domain, [[True] * len(block.domain.atoms)] * 2):
        _execute(block.body, Scope(arrays, block.domain, ranges, block.domain.indices(ranges), shift=shift))


def _execute(statements: Sequence[Any], scope: Scope) -> None:
    for statement in statements:
        value = scope.value(statement.value)
        if isinstance(statement, tirx.Bind):
            scope = scope.bind(statement.var, value)
        else:
            write(scope, statement, value)
