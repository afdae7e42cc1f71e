"""Swizzled shared memory: the chunks of each 128-byte line in an order that depends on the line, so that what lies in
one column lies in different banks. It needs no bytes, where padding needs a part of each row.

Every access of a kernel to shared memory goes through one map of addresses, a bijection of each line. So nothing can
overlap that did not before, whatever shares memory with whatever. An access must lie within one chunk.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import tvm
from tvm import tirx
from tvm.s_tir import SBlock, Schedule
from tvm.target import Target

from kernels import mma
from kernels.access import SWIZZLED, LaunchAccess, Unbound, counted, counted_in_chunks
from kernels.bank_layout import ALIGNED
from kernels.lowering import nodes

LINE_BYTES = 128
"""All banks once."""

_GRANULES = (16, 8, 4)
_BUDGET = 1 << 12

_SHARED = re.compile(
    r"^(\s*)(extern )?__shared__ (?:alignas|__align__)\(\d+\) ((?:\w+ )+?)(\w+)\[(\d*)\];", re.MULTILINE
)
_ACCESSED_AS = r"\(\(((?:\w+ ?)+)\*\){name}\)"
_TILE = re.compile(r"(\w+_matrix_sync\(.*?)\(&\((Swizzled<[^>]*>\{[^}]*\})\[(.*?)\]\)\)(, .*\);)$", re.MULTILINE)
_COPY = re.compile(r"__device__ void (ptx_cp_async_legacy_\w+)\(void\* dst, int dst_off, void\* src, int src_off\)")


def granule_of(function: tirx.PrimFunc) -> int:
    """The bytes of a chunk of a function's shared memory; 0 where it is not to be swizzled."""
    return int((function.attrs or {}).get(SWIZZLED, 0))


def why_not(function: tirx.PrimFunc, target: Target) -> str:
    """Why the shared memory of a scheduled program cannot be swizzled; "" where it can."""
    if target.kind.name != "cuda":
        return "only CUDA sources are swizzled"
    try:
        found = counted(function, _BUDGET)
    except (Unbound, RuntimeError, ValueError):
        return "it has no launch whose accesses can be counted"
    if any(launch.opaque for launch in found):
        return "an intrinsic is given a pointer to shared memory, and which addresses it accesses is not known"
    if not any(launch.of("shared") for launch in found):
        return "it has nothing in shared memory"
    return "" if _widest(found) <= _GRANULES[0] else "a vector is longer than a chunk of 16 bytes"


@functools.lru_cache(maxsize=8)
def swizzled(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The program marked with the chunks that are counted to conflict least, with or without TVM's padding; as it is
    where nothing is better.

    Fewer conflicts count first, then fewer bytes. The last few programs are kept.
    """
    best, lowest = function, None
    for program in (function, without_padding(function)):
        if program is None:
            continue
        found = counted_in_chunks(program, _BUDGET, (0, *_GRANULES))
        widest = _widest(found[0])
        for granule in (*(g for g in _GRANULES if g >= widest), *([0] if program is function else [])):
            cost = _cost(found[granule])
            if lowest is None or cost < lowest or (cost == lowest and not granule):
                best, lowest = _marked(program, granule), cost
    return best


def _marked(program: tirx.PrimFunc, granule: int) -> tirx.PrimFunc:
    return program.with_attr(SWIZZLED, tvm.tirx.IntImm("int32", granule)) if granule else program


def shared_bytes(function: tirx.PrimFunc) -> int:
    """The bytes of a program's buffers in shared memory; 0 where no loop is bound to threads."""
    try:
        return sum(launch.shared_bytes for launch in counted(function, _BUDGET))
    except Unbound:
        return 0


def _cost(found: Sequence[LaunchAccess]) -> tuple[int, int]:
    return sum(launch.total("shared", "transactions") for launch in found), sum(x.shared_bytes for x in found)


def _widest(found: Sequence[LaunchAccess]) -> int:
    """The bytes of the widest access to shared memory."""
    return max((a.vector * a.itemsize for launch in found for a in launch.of("shared")), default=1)


def without_padding(function: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """The program whose buffers have rows of no more than their elements; None where they have no more."""
    padded = [block for block in nodes(function.body, SBlock) if ALIGNED in block.annotations]
    if not padded:
        return None
    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="none")
    for block in padded:
        schedule.unannotate(schedule.get_sblock(str(block.name_hint)), ALIGNED)
    return schedule.mod["main"]


# --- source ---------------------------------------------------------------------------------------------


def in_swizzle(source: str, granule: int) -> str:
    """CUDA source whose kernels access shared memory through `Swizzled`."""
    names = list(dict.fromkeys(match[4] for match in _SHARED.finditer(source)))
    if not names:
        return source
    text = _SHARED.sub(lambda match: _declared(match, granule), source)
    for name in names:
        through = rf"Swizzled<\1, {granule}>{{(char*){name}, 0}}"
        text = re.sub(_ACCESSED_AS.format(name=name), through, text)
    text = _TILE.sub(r"\1\2.tile(\3)\4", text)
    first = mma.KERNEL.search(text)
    assert first is not None
    copies = "".join(_copy(name, granule) for name in dict.fromkeys(_COPY.findall(text)))
    return text[: first.start()] + header() + copies + text[first.start() :]


def _declared(match: re.Match[str], granule: int) -> str:
    """A declaration that begins and ends with a line; one of a kind of elements is accessed by its own name."""
    indent, extern, kind, name, size = match.groups()
    kind = kind.strip()
    if extern:
        return f"{indent}extern __shared__ __align__({LINE_BYTES}) {kind} {name}[];"
    if kind == "uchar":
        return f"{indent}__shared__ alignas({LINE_BYTES}) {kind} {name}[{-(-int(size) // LINE_BYTES) * LINE_BYTES}];"
    elements = f"({size} * sizeof({kind}) + {LINE_BYTES - 1}) / {LINE_BYTES} * {LINE_BYTES} / sizeof({kind})"
    return (
        f"{indent}__shared__ alignas({LINE_BYTES}) {kind} {name}_lines[{elements}];\n"
        f"{indent}const Swizzled<{kind}, {granule}> {name} = {{(char*){name}_lines, 0}};"
    )


def _copy(name: str, granule: int) -> str:
    """TVM's function for an asynchronous copy, to swizzled memory."""
    return (
        f"template <class T> __device__ __forceinline__ void {name}(Swizzled<T, {granule}> dst, int dst_off, "
        f"void* src, int src_off) {{\n  {name}((void*)(dst + dst_off), 0, src, src_off);\n}}\n"
    )


@functools.cache
def header() -> str:
    """The device code of `Swizzled`."""
    return (Path(__file__).parent / "swizzled.cuh").read_text("utf-8")
