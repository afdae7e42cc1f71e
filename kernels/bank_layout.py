"""Paddings of buffers in shared memory, chosen by the conflicts that are counted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import SBlock, Schedule
from tvm.target import Target

from kernels.access import BANKS, LaunchAccess, Unbound, counted
from kernels.access.counting import BANK_BYTES
from kernels.launch_plan import ITEM_BYTES
from kernels.lowering import nodes

_WORDS = (1, 2, 4, 8)
"""Paddings tried, in words of a bank, beyond a multiple of all banks."""

_BUDGET = 1 << 13
ALIGNED = "buffer_dim_align"
"""The annotation of a block whose buffer is padded already, by TVM's StorageAlign."""


def why_not(function: tirx.PrimFunc, target: Target) -> str:
    """Why no buffer of a program can be padded; "" where one can."""
    try:
        found = _counted(function)
    except (Unbound, RuntimeError, ValueError):
        return "it has no launch whose accesses can be counted"
    if any(launch.opaque for launch in found):
        return "an intrinsic is given a pointer to shared memory"
    if not _writers(function):
        return "no buffer in shared memory has rows that can be padded"
    most = int(target.attrs.get("max_shared_memory_per_block", 48 * 1024))
    if max(launch.shared_bytes for launch in _counted(padded(function))) > most:
        return f"its padded rows need more than {most} bytes of shared memory"
    return ""


@functools.lru_cache(maxsize=8)
def padded(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The program with rows of its buffers in shared memory padded, each as is counted to conflict least.

    The last few programs are kept.
    """
    for name in _writers(function):
        lowest, best = _passes(function), function
        widest = _widest(function, name)
        for words in _WORDS:
            candidate = _with_padding(function, name, words, widest)
            if candidate is not None and (passes := _passes(candidate)) < lowest:
                lowest, best = passes, candidate
        function = best
    return function


def _writers(function: tirx.PrimFunc) -> list[str]:
    """The names of the blocks that alone write a buffer of more than one dimension in shared memory, not padded yet."""
    found: dict[Any, list[Any]] = {}
    for block in nodes(function.body, SBlock):
        for region in block.writes:
            if str(region.source.scope()).startswith("shared") and len(region.source.shape) > 1:
                found.setdefault(region.source, []).append(block)
    return [
        str(blocks[0].name_hint)
        for blocks in found.values()
        if len(blocks) == 1 and len(blocks[0].writes) == 1 and ALIGNED not in blocks[0].annotations
    ]


def _with_padding(function: tirx.PrimFunc, name: str, words: int, widest: int) -> tirx.PrimFunc | None:
    """The program with one buffer's rows so many words longer than a multiple of all banks; None where vectors would
    not be aligned any more."""
    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="none")
    block = schedule.get_sblock(name)
    itemsize = ITEM_BYTES[str(schedule.get(block).writes[0].source.dtype)]
    if itemsize > BANK_BYTES * words:
        return None
    factor, offset = BANKS * BANK_BYTES // itemsize, words * BANK_BYTES // itemsize
    if offset % widest:
        return None
    try:
        schedule.storage_align(block, 0, -2, factor, offset)
    except (RuntimeError, ValueError):
        return None
    return schedule.mod["main"]


def _widest(function: tirx.PrimFunc, name: str) -> int:
    """The elements of the widest vector that accesses the buffer which a block writes."""
    [block] = [block for block in nodes(function.body, SBlock) if str(block.name_hint) == name]
    buffer = block.writes[0].source.name
    return max((a.vector for launch in _counted(function) for a in launch.accesses if a.buffer == buffer), default=1)


def _passes(function: tirx.PrimFunc) -> int:
    return sum(launch.total("shared", "transactions") for launch in _counted(function))


def _counted(function: tirx.PrimFunc) -> Sequence[LaunchAccess]:
    return counted(function, _BUDGET)
