"""AMX, the tile products of x86 CPUs: which a target has, and functions in LLVM's language that kernels call.

One instruction adds to a tile of 16 by 16 32-bit sums the product of 16 rows of 64 bytes by 16 columns of 64 bytes,
which stand as dot-product instructions read them (`kernels.dots`). A function computes up to four such tiles below each
other over a whole reduction: each tile of the right operand is loaded once for all of them. A last part of fewer than
64 bytes is a smaller tile.

Linux gives the tiles' registers to a process that asks for them, which such functions do before their first tile. No
CPU without AMX runs this code, and none is offered it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.target import Target

from kernels.lowering import nodes

ROWS = 16
"""Of a tile, at most."""

WORDS = 16
"""32-bit words of a row of a tile, and columns of a tile of sums."""

MOST_TILES = 4
"""Below each other, in one call. There are eight registers, each of one size: two hold operands, and two the smaller
ones of the last part of a reduction."""

MOST_FASTER = 16.0
"""Than dot products of vectors, at most: a tile product is 256 of these and takes 16 cycles."""

MOST_ROWS = MOST_TILES * ROWS


def tiles_of(rows: int) -> int | None:
    """Into how many tiles of equal heights the rows of one call are cut; None where no number will do. One row alone is
    left to vectors: its product is bound by memory."""
    numbers = range(max(1, -(-rows // ROWS)), MOST_TILES + 1)
    return next((n for n in numbers if rows % n == 0), None) if rows > 1 else None


@dataclass(frozen=True)
class TileProduct:
    """A tile instruction. `dot` is the dot-product instruction whose operands it takes; `features` are LLVM's."""

    name: str
    dot: str
    features: frozenset[str]

    def symbol(self, rows: int, words: int) -> str:
        """The function for so many rows, and a reduction of so many 32-bit words."""
        return f"amx_{self.name}_{rows}x{words}"


TILES: tuple[TileProduct, ...] = (
    TileProduct("tdpbf16ps", "vdpbf16ps_512", frozenset({"amx-tile", "amx-bf16"})),
    TileProduct("tdpbusd", "vpdpbusd_512", frozenset({"amx-tile", "amx-int8"})),
)


def offered(target: Target) -> tuple[TileProduct, ...]:
    """The tile products that a target has."""
    if target.kind.name != "llvm":
        return ()
    features = {str(name) for name in tvm.target.codegen.llvm_get_cpu_features(target)}
    return tuple(tile for tile in TILES if tile.features <= features)


_SYMBOL = re.compile(r"amx_(\w+)_(\d+)x(\d+)")


def parsed(symbol: str) -> tuple[TileProduct, int, int] | None:
    """The instruction, rows and words of a function; None for another symbol."""
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        return None
    return next(t for t in TILES if t.name == match[1]), int(match[2]), int(match[3])


def called(function: tirx.PrimFunc) -> list[str]:
    """The functions that a program calls, none twice."""
    symbols = (getattr(c.args[0], "value", "") for c in nodes(function.body, tvm.ir.Call) if len(c.args))
    return list(dict.fromkeys(s for s in symbols if isinstance(s, str) and parsed(s)))


def instructions(symbol: str) -> int:
    """The tile products that one call of a function executes; 0 for another symbol."""
    found = parsed(symbol)
    return 0 if found is None else (tiles_of(found[1]) or 0) * -(-found[2] // WORDS)


def definitions(function: tirx.PrimFunc) -> str:
    """What a program calls, in LLVM's language; "" where it calls none."""
    symbols = called(function)
    if not symbols:
        return ""
    used = {tile.name for tile, _, _ in filter(None, map(parsed, symbols))}
    return "".join([_SHARED, *(_declared(name) for name in sorted(used)), *map(_definition, symbols)])


_TILE = "x86_amx"
_SYSCALL = "={rax},{rax},{rdi},{rsi},~{rcx},~{r11},~{memory}"
_ARGUMENTS = "ptr %c, i64 %ldc, ptr %a, i64 %lda, ptr %b, i64 %ldb"

_SHARED = f"""
declare {_TILE} @llvm.x86.tileloadd64.internal(i16, i16, ptr, i64)
declare void @llvm.x86.tilestored64.internal(i16, i16, ptr, i64, {_TILE})
@amx_asked = internal global i8 0
define internal void @amx_permit() {{
  %asked = load i8, ptr @amx_asked
  %is = icmp ne i8 %asked, 0
  br i1 %is, label %done, label %ask
ask:
  %r = call i64 asm sideeffect "syscall", "{_SYSCALL}"(i64 158, i64 4131, i64 18)
  store i8 1, ptr @amx_asked
  br label %done
done:
  ret void
}}
"""
"""158 is arch_prctl, 4131 its ARCH_REQ_XCOMP_PERM, 18 the state of the tiles. Where it is refused, the first tile ends
the process: that of a candidate's check."""


def _declared(name: str) -> str:
    return f"declare {_TILE} @llvm.x86.{name}.internal(i16, i16, i16, {_TILE}, {_TILE}, {_TILE})\n"


def _definition(symbol: str) -> str:
    """C (rows by 16) += A by B. Strides are in bytes; B's are from one word of the reduction to the next."""
    found = parsed(symbol)
    assert found is not None, symbol
    tile, rows, words = found
    count = tiles_of(rows)
    assert count is not None, symbol
    height = rows // count
    whole, rest = divmod(words, WORDS)
    sizes = sorted({height, 4 * WORDS, WORDS, rest, 4 * rest})
    lines = [
        f"define linkonce_odr hidden i32 @{symbol}({_ARGUMENTS}) {{",
        "entry:",
        "  call void @amx_permit()",
        # LLVM configures tiles as soon as it knows their sizes: not before these
        *(f'  {_size(n)} = call i16 asm sideeffect "", "=r,0"(i16 {n})' for n in sizes),
        *_places(count, height),
        *(_load(f"%c{n}", f"%pc{n}", height, WORDS, "%ldc") for n in range(count)),
    ]
    if whole:
        lines += _loop(tile.name, (count, height), whole)
    if rest:
        lines += _part(tile.name, (count, height), rest, "%a_end" if whole else "%a", "%b_end" if whole else "%b", "r")
    last = "r" if rest else "s"
    for n in range(count):
        stored = f"{_sizes(height, 4 * WORDS)}, ptr %pc{n}, i64 %ldc, {_TILE} %{last}{n}"
        lines.append(f"  call void @llvm.x86.tilestored64.internal({stored})")
    return "\n".join([*lines, "  ret i32 0", "}", ""])


def _places(count: int, height: int) -> Iterator[str]:
    """Where each tile of C begins, and its rows of A."""
    for n in range(count):
        for operand in "ca":
            yield f"  %o{operand}{n} = mul i64 %ld{operand}, {n * height}"
        yield f"  %pc{n} = getelementptr i8, ptr %c, i64 %oc{n}"


def _load(name: str, pointer: str, rows: int, words: int, stride: str) -> str:
    sizes = _sizes(rows, 4 * words)
    return f"  {name} = call {_TILE} @llvm.x86.tileloadd64.internal({sizes}, ptr {pointer}, i64 {stride})"


def _size(count: int) -> str:
    return f"%size{count}"


def _sizes(*counts: int) -> str:
    return ", ".join(f"i16 {_size(n)}" for n in counts)


def _loop(name: str, tiles: tuple[int, int], count: int) -> list[str]:
    """`count` whole parts of the reduction; the sums are %s0, %s1, ... after it."""
    return [
        "  %b_step = mul i64 %ldb, 16",
        "  br label %loop",
        "loop:",
        "  %n = phi i64 [ 0, %entry ], [ %n_next, %loop ]",
        "  %a_now = phi ptr [ %a, %entry ], [ %a_end, %loop ]",
        "  %b_now = phi ptr [ %b, %entry ], [ %b_end, %loop ]",
        *(f"  %t{n} = phi {_TILE} [ %c{n}, %entry ], [ %s{n}, %loop ]" for n in range(tiles[0])),
        *_part(name, tiles, WORDS, "%a_now", "%b_now", "s"),
        "  %a_end = getelementptr i8, ptr %a_now, i64 64",
        "  %b_end = getelementptr i8, ptr %b_now, i64 %b_step",
        "  %n_next = add i64 %n, 1",
        f"  %more = icmp ult i64 %n_next, {count}",
        "  br i1 %more, label %loop, label %done",
        "done:",
    ]


def _part(name: str, tiles: tuple[int, int], words: int, a: str, b: str, made: str) -> list[str]:
    """Some words of the reduction. What it adds to are the loop's sums in the loop (`made` "s"), and after it what the
    loop left, or C."""
    lines = [_load(f"%b_{made}", b, words, WORDS, "%ldb")]
    given = "t" if made == "s" else "s" if a == "%a_end" else "c"
    count, height = tiles
    for n in range(count):
        lines.append(f"  %pa_{made}{n} = getelementptr i8, ptr {a}, i64 %oa{n}")
        lines.append(_load(f"%a_{made}{n}", f"%pa_{made}{n}", height, words, "%lda"))
        sizes = _sizes(height, 4 * WORDS, 4 * words)
        operands = f"{_TILE} %{given}{n}, {_TILE} %a_{made}{n}, {_TILE} %b_{made}"
        lines.append(f"  %{made}{n} = call {_TILE} @llvm.x86.{name}.internal({sizes}, {operands})")
    return lines
