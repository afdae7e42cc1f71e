"""Evaluates a whole function, block after block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from kernels.reference.blocks import LeafBlock, extent_of, leaf_block, root_block, sequence
from kernels.reference.domain import Array, Unsupported, chunks
from kernels.reference.dtypes import storage_dtype
from kernels.reference.expressions import Scope, loads_from, write
from kernels.reference.reductions import run_reduction


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
