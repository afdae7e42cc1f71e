"""Stores that go past the caches: functions in LLVM's language that kernels call (`definitions`).

A line that is wholly written need not be read from memory before, nor does it push out what is in the caches. Such
stores are ordered by `FENCE` alone (x86), or by the locked instructions with which TVM's threads hand over.
"""

from __future__ import annotations

import re
from typing import Any

import tvm
from tvm import tirx

from kernels.lowering import nodes

FENCE = "stream_fence"
_SYMBOL = re.compile(r"stream_(float|int)(\d+)x(\d+)")
_WIDEST, _NARROWEST = 64, 16
"""Bytes of a store."""


def lanes_of(dtype: str, is_aligned: Any) -> int:
    """How many elements a store has, the most of which `is_aligned` says that every row has them at their multiples; 0
    for none."""
    found = re.fullmatch(r"(?:float|int)(\d+)", dtype)
    size = int(found[1]) // 8 if found else 0
    widths = [width for width in (_WIDEST, _WIDEST // 2, _NARROWEST) if size and width % size == 0]
    return next((width // size for width in widths if is_aligned(width // size)), 0)


def stored(buffer: Any, indices: list[Any], value: Any, lanes: int) -> Any:
    """The statement that stores a vector at an element, which is aligned to it."""
    symbol = f"stream_{buffer.dtype}x{lanes}"
    address = tirx.address_of(tirx.BufferLoad(buffer, indices))
    return tirx.Evaluate(tirx.call_extern("int32", symbol, address, value))


def fence() -> Any:
    """The statement after which others see what was stored."""
    return tirx.Evaluate(tirx.call_extern("int32", FENCE))


def called(function: tirx.PrimFunc) -> list[str]:
    """The functions of this module that a program calls, none twice."""
    found = [getattr(c.args[0], "value", "") for c in nodes(function.body, tvm.ir.Call) if len(c.args)]
    return list(dict.fromkeys(s for s in found if isinstance(s, str) and (s == FENCE or _SYMBOL.fullmatch(s))))


def definitions(function: tirx.PrimFunc) -> str:
    """What a program calls, in LLVM's language; "" where it calls none."""
    return "".join(map(_definition, called(function)))


def _definition(symbol: str) -> str:
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        return f"""
declare void @llvm.x86.sse.sfence()
define linkonce_odr hidden i32 @{symbol}() alwaysinline {{
  call void @llvm.x86.sse.sfence()
  ret i32 0
}}
"""
    kind, bits, lanes = match[1], int(match[2]), int(match[3])
    scalar = f"i{bits}" if kind == "int" else {16: "half", 32: "float", 64: "double"}[bits]
    return f"""
define linkonce_odr hidden i32 @{symbol}(ptr %to, <{lanes} x {scalar}> %v) alwaysinline {{
  store <{lanes} x {scalar}> %v, ptr %to, align {bits * lanes // 8}, !nontemporal !{{i32 1}}
  ret i32 0
}}
"""
