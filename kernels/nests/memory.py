"""What TensorIR has no words for of memory: functions in LLVM's language that kernels call (`definitions`).

Stores past the caches: a line that is wholly written need not be read from memory before, nor does it push out what is
in the caches. Such stores are ordered by `FENCE` alone (x86), or by the locked instructions with which TVM's threads
hand over. How far it is to an address that they can be at. And whether two arguments are the same memory.
"""

from __future__ import annotations

import re
from typing import Any

import tvm
from tvm import tirx

from kernels.lowering import nodes

FENCE, APART, DISTANCE = "stream_fence", "memory_apart", "memory_distance"
_SYMBOL = re.compile(r"stream_(float|int)(\d+)x(\d+)")
_BYTES = 64
"""Of a store."""


def lanes_of(dtype: str) -> int:
    """How many elements a store has; 0 where there is none of a dtype."""
    found = re.fullmatch(r"(?:float|int)(\d+)", dtype)
    return _BYTES * 8 // int(found[1]) if found else 0


def distance(buffer: Any, indices: list[Any]) -> Any:
    """How many elements lie before the first one, from an element on, that a store can begin at."""
    size = _BYTES // lanes_of(str(buffer.dtype))
    address = tirx.address_of(tirx.BufferLoad(buffer, indices))
    return tirx.call_extern("int32", DISTANCE, address, tirx.const(size, "int32"))


def stored(buffer: Any, indices: list[Any], value: Any, lanes: int) -> Any:
    """The statement that stores a vector at an element, which is aligned to it."""
    symbol = f"stream_{buffer.dtype}x{lanes}"
    address = tirx.address_of(tirx.BufferLoad(buffer, indices))
    return tirx.Evaluate(tirx.call_extern("int32", symbol, address, value))


def fence() -> Any:
    """The statement after which others see what was stored."""
    return tirx.Evaluate(tirx.call_extern("int32", FENCE))


def apart(one: Any, other: Any) -> Any:
    """Whether two buffers are not the same memory."""
    places = [tirx.address_of(tirx.BufferLoad(b, [tirx.const(0, "int32")] * len(b.shape))) for b in (one, other)]
    return tirx.NE(tirx.call_extern("int32", APART, *places), tirx.const(0, "int32"))


def marker(entry: str) -> str:
    """The symbol, in a kernel's object, that says: where its output is the same memory as the argument whose elements
    it keeps, it neither reads nor writes these."""
    return f"{entry}_in_place"


def called(function: tirx.PrimFunc) -> list[str]:
    """The functions of this module that a program calls, none twice."""
    found = [getattr(c.args[0], "value", "") for c in nodes(function.body, tvm.ir.Call) if len(c.args)]
    return list(dict.fromkeys(s for s in found if isinstance(s, str) and (s in _KNOWN or _SYMBOL.fullmatch(s))))


def definitions(function: tirx.PrimFunc, entry: str = "") -> str:
    """What a program calls, in LLVM's language; "" where it calls none. `entry`: under which symbol it is compiled."""
    symbols = called(function)
    marked = _MARKER.format(name=marker(entry)) if entry and APART in symbols else ""
    return "".join([*map(_definition, symbols), marked])


_MARKER = """
@{name} = hidden constant i8 1
@llvm.used = appending global [1 x ptr] [ptr @{name}], section "llvm.metadata"
"""
_APART = f"""
define linkonce_odr hidden i32 @{APART}(ptr %a, ptr %b) alwaysinline {{
  %differ = icmp ne ptr %a, %b
  %word = zext i1 %differ to i32
  ret i32 %word
}}
"""


_DISTANCE = f"""
define linkonce_odr hidden i32 @{DISTANCE}(ptr %from, i32 %size) alwaysinline {{
  %address = ptrtoint ptr %from to i64
  %behind = sub i64 0, %address
  %bytes = and i64 %behind, {_BYTES - 1}
  %narrow = trunc i64 %bytes to i32
  %elements = udiv i32 %narrow, %size
  ret i32 %elements
}}
"""
_FENCE = f"""
declare void @llvm.x86.sse.sfence()
define linkonce_odr hidden i32 @{FENCE}() alwaysinline {{
  call void @llvm.x86.sse.sfence()
  ret i32 0
}}
"""
_KNOWN = {FENCE: _FENCE, APART: _APART, DISTANCE: _DISTANCE}


def _definition(symbol: str) -> str:
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        return _KNOWN[symbol]
    kind, bits, lanes = match[1], int(match[2]), int(match[3])
    scalar = f"i{bits}" if kind == "int" else {16: "half", 32: "float", 64: "double"}[bits]
    return f"""
define linkonce_odr hidden i32 @{symbol}(ptr %to, <{lanes} x {scalar}> %v) alwaysinline {{
  store <{lanes} x {scalar}> %v, ptr %to, align {bits * lanes // 8}, !nontemporal !{{i32 1}}
  ret i32 0
}}
"""
