"""What the lanes of a warp access when fragments are loaded by `ldmatrix` and stored: see `kernels/warp_mma.cuh`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx

from kernels.launch_plan import ITEM_BYTES

LOAD, STORE = "tvm_load_matrix_sync", "tvm_store_matrix_sync"
CALLS = (LOAD, STORE, "tvm_fill_fragment", "tvm_mma_sync", "tvm_access_ptr", "type_annotation")
"""The calls by which a program works with fragments."""

_ROW_BYTES = 16


def tile_of(call: Any) -> tuple[Any, Any]:
    """The buffer in shared memory that a load or store is given a pointer into, and the first element's index."""
    pointer = call.args[5]
    return pointer.args[1].args[0], pointer.args[2]


def indices(call: Any, lane: Any) -> Iterator[Any]:
    """The flat index of each access of a load or store of a fragment, in elements, as a vector for each lane."""
    fragment, (buffer, first) = call.args[0].args[0], tile_of(call)
    stride, by_rows = call.args[6], str(call.args[7].value) == "row_major"
    itemsize = ITEM_BYTES[str(buffer.dtype)]
    if str(call.op.name).endswith(STORE):
        for part in range(4):
            row, column = lane // 4 + part % 2 * 8, part // 2 * 8 + lane % 4 * 2
            yield tirx.Ramp(first + row * stride + column, 1, 2)
        return
    is_a = str(fragment.scope()).endswith("matrix_a")
    if itemsize == 1 and is_a != by_rows:
        for step in range(8):
            yield first + (lane % 4 * 4 + step % 4) * stride + (lane // 4 + step // 4 * 8)
        return
    if itemsize == 1:
        yield tirx.Ramp(first + lane % 16 * stride, 1, _ROW_BYTES)
        return
    below, beside = (lane // 8 % 2 * 8, lane // 16 * 8) if by_rows else (lane // 16 * 8, lane // 8 % 2 * 8)
    yield tirx.Ramp(first + (lane % 8 + below) * stride + beside, 1, _ROW_BYTES // itemsize)
