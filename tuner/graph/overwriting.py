"""Which operands a kernel may overwrite with its output."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock

from kernels.reference.expressions import subexpressions


def overwritten(function: tirx.PrimFunc) -> tuple[int, ...]:
    """The numbers of the arguments whose memory the last argument, the output, may share.

    The program must be one block whose iterations are independent of one another and of which each writes the element
    at its own indices once; it must read an argument of that kind at just these indices, and the two must have
    elements of the same size. Then an element is read for the last time in the iteration that overwrites it, in
    whatever order a schedule runs them, as long as it runs each once.
    """
    blocks: list[Any] = []
    tvm_ffi.structural_walk(function.body, (SBlock, blocks.append))
    inner = [block for block in blocks if block.iter_vars]
    if len(inner) != 1 or len(blocks) != 2 or blocks[0].alloc_buffers or inner[0].init is not None:
        return ()
    [block] = inner
    *read, output = function.params
    store = block.body
    independent = all(v.iter_type == tirx.IterVar.DataPar for v in block.iter_vars)
    if not (isinstance(store, tirx.BufferStore) and store.buffer.same_as(output) and independent):
        return ()
    own = [v.var for v in block.iter_vars]
    if not _same(store.indices, own) or any(v.dom.min != 0 for v in block.iter_vars):
        return ()
    loads = [e for e in subexpressions(store.value) if isinstance(e, tvm.ir.TensorLoad)]
    return tuple(
        number
        for number, buffer in enumerate(read)
        if _alike(buffer, output)
        and any(load.source.same_as(buffer) for load in loads)
        and all(_same(load.indices, own) for load in loads if load.source.same_as(buffer))
    )


def _alike(buffer: Any, output: Any) -> bool:
    same_shape = [int(n) for n in buffer.shape] == [int(n) for n in output.shape]
    return same_shape and np.dtype(str(buffer.dtype)).itemsize == np.dtype(str(output.dtype)).itemsize


def _same(indices: Any, own: Any) -> bool:
    return len(indices) == len(own) and all(a.same_as(b) for a, b in zip(indices, own, strict=True))
