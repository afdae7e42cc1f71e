"""Dot-product instructions of x86 CPUs: which ones a target has, and as tensor intrinsics.

Each adds to every 32-bit lane of an accumulator the sum of 2 or 4 products of narrow numbers: `vdpbf16ps` of bfloat16,
`vpdpbusd` of unsigned by signed bytes, `vpdpwssd` of 16-bit integers. The right operand stands with those steps of the
reduction side by side.

TVM cannot pass bfloat16 to an intrinsic, since it computes with it as float32, and TVM 0.27's own `vpdpbusd` has the
operand types of an older LLVM. So kernels call functions in LLVM's language, which are imported with the kernel
(`imported`) and inlined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.target import Target
from tvm.tirx import IterVar

from kernels import amx
from kernels.lowering import nodes
from kernels.nests import memory

MARK = "dot"
"""The annotation, on a block of a sketch, that names the instruction for its two innermost loops (see `dot_of`), and on
the first loop of its reduction that it is this."""

BITS = "uint16"
"""The dtype of the bits of a bfloat16."""


@dataclass(frozen=True)
class Dot:
    """A dot-product instruction: result[lanes] += sum over `steps` of left[steps] * right[lanes, steps].

    `features`: LLVM's names of what the CPU must have, any of the alternatives. `operand`: the type in LLVM of what a
    vector of `lanes * steps` narrow numbers is handed over as.
    """

    name: str
    left: str
    right: str
    result: str
    lanes: int
    steps: int
    features: tuple[frozenset[str], ...]
    llvm: str
    operand: str

    @property
    def symbol(self) -> str:
        """The function that kernels call: accumulator, left operand broadcast, right operand."""
        return f"dot_{self.name}"

    @property
    def copied(self) -> str:
        """The dtype of a left operand that a kernel copies for itself, see `widened`."""
        return BITS if self.left == "bfloat16" else self.left

    @property
    def definition(self) -> str:
        """That function in LLVM's language; operands are 32-bit lanes."""
        words = f"<{self.lanes} x i32>"
        result = f"<{self.lanes} x {'float' if self.result == 'float32' else 'i32'}>"
        given = f"{result} %c, {self.operand} %x, {self.operand} %y"
        return f"""
declare {result} @{self.llvm}({result}, {self.operand}, {self.operand})
define linkonce_odr hidden {result} @{self.symbol}({result} %c, {words} %a, {words} %b) alwaysinline {{
  %x = bitcast {words} %a to {self.operand}
  %y = bitcast {words} %b to {self.operand}
  %r = call {result} @{self.llvm}({given})
  ret {result} %r
}}
"""


_Features = tuple[frozenset[str], ...]

_BF16: _Features = (frozenset({"avx512bf16"}),)
_BF16_256: _Features = (frozenset({"avx512bf16", "avx512vl"}),)
_VNNI: _Features = (frozenset({"avx512vnni"}),)
_VNNI_256: _Features = (frozenset({"avx512vnni", "avx512vl"}), frozenset({"avxvnni"}))


def _widths(
    name: str, operands: tuple[str, str], result: str, steps: int, llvm: str, element: str,
    features: tuple[_Features, _Features],
) -> tuple[Dot, Dot]:  # fmt: skip
    """An instruction on vectors of 512 and of 256 bits. `element`: what LLVM calls an operand's."""
    wide, narrow = (
        Dot(f"{name}_{bits}", *operands, result, bits // 32, steps, needed, f"{llvm}.{bits}",
            f"<{bits // 32 * steps} x {element}>")
        for bits, needed in zip((512, 256), features, strict=True)
    )  # fmt: skip
    return wide, narrow


DOTS: tuple[Dot, ...] = (
    *_widths("vdpbf16ps", ("bfloat16", "bfloat16"), "float32", 2, "llvm.x86.avx512bf16.dpbf16ps", "bfloat",
             (_BF16, _BF16_256)),
    *_widths("vpdpbusd", ("uint8", "int8"), "int32", 4, "llvm.x86.avx512.vpdpbusd", "i8", (_VNNI, _VNNI_256)),
    *_widths("vpdpwssd", ("int16", "int16"), "int32", 2, "llvm.x86.avx512.vpdpwssd", "i16", (_VNNI, _VNNI_256)),
)  # fmt: skip
"""Every instruction, for each kind of operand the widest first."""


def offered(target: Target) -> tuple[Dot, ...]:
    """The instructions that a target has, for each kind of operand the widest first."""
    if target.kind.name != "llvm":
        return ()
    features = {str(name) for name in tvm.target.codegen.llvm_get_cpu_features(target)}
    return tuple(dot for dot in DOTS if any(wanted <= features for wanted in dot.features))


def widened(value: Any, result: str) -> Any:
    """A factor in the dtype of the sum. The bits of a bfloat16, as uint16, are the upper half of a float32's.

    TVM keeps a bfloat16 tensor that a kernel makes for itself in float32, so kernels copy their operands as bits.
    """
    value = tirx.convert(value)
    if str(value.ty.dtype) != BITS:
        return value if str(value.ty.dtype) == result else value.astype(result)
    return tirx.reinterpret("float32", tirx.shift_left(value.astype("uint32"), tirx.const(16, "uint32")))


def copied(value: Any, dtype: str) -> Any:
    """An element of an operand as a kernel copies it for an instruction that reads `dtype`: bits of bfloat16, signed
    bytes plus 128 as unsigned ones, and integers widened."""
    value = tirx.convert(value)
    own = str(value.ty.dtype)
    if own == "bfloat16":
        return tirx.reinterpret(BITS, value)
    if (own, dtype) == ("int8", "uint8"):
        return value.astype(dtype) ^ tirx.const(128, dtype)
    return value if own == dtype else value.astype(dtype)


def _narrow(factor: Any) -> Any:
    """The load that `widened` made a factor of; None for other expressions."""
    if isinstance(factor, tirx.Cast):
        return factor.value
    if getattr(getattr(factor, "op", None), "name", "") != "tirx.reinterpret":
        return None
    shifted = factor.args[0]
    cast = shifted.a if isinstance(shifted, tirx.LShift) else None
    return cast.value if isinstance(cast, tirx.Cast) and str(cast.value.ty.dtype) == BITS else None


def multiplied(block: Any) -> tuple[str, str, int] | None:
    """The dtypes of the operands and the steps side by side of a block c[..., j] += a[..., k] * b[..., j, k % steps];
    None for other blocks.

    k is the last reduction axis, j the last other one; b may have j % n in its place. Both factors are `widened`.
    """
    axes = [v.var for v in block.iter_vars]
    kinds = [int(v.iter_type) for v in block.iter_vars]
    if IterVar.CommReduce not in kinds or kinds != sorted(kinds, key=[IterVar.DataPar, IterVar.CommReduce].index):
        return None
    lane, step = axes[kinds.index(IterVar.CommReduce) - 1], axes[-1]
    value = getattr(block.body, "value", None)
    product = value.b if isinstance(value, tirx.Add) else None
    loads = [_narrow(factor) for factor in (product.a, product.b)] if isinstance(product, tirx.Mul) else []
    if len(loads) != 2 or not all(isinstance(load, tvm.ir.TensorLoad) for load in loads):
        return None
    left, right = loads
    if len(right.indices) < 2 or not _side_by_side(left, step):
        return None
    column, side = right.indices[-2:]
    if not isinstance(side, tirx.FloorMod) or not side.a.same_as(step):
        return None
    if not (column.same_as(lane) or (isinstance(column, tirx.FloorMod) and column.a.same_as(lane))):
        return None
    return str(left.source.dtype), str(right.source.dtype), int(side.b)


def _side_by_side(load: Any, step: Any) -> bool:
    """Whether what a load reads for consecutive values of a variable lies side by side."""
    *others, last = load.indices
    if any(_uses(index, step) for index in others):
        return False
    terms = (last.a, last.b) if isinstance(last, tirx.Add) else (last,)
    moving = [term for term in terms if _uses(term, step)]
    return len(moving) == 1 and bool(moving[0].same_as(step))


def _uses(expr: Any, variable: Any) -> bool:
    return any(node.same_as(variable) for node in nodes(expr, tirx.Var))


def dot_of(block: Any, dots: Sequence[Dot]) -> str | None:
    """The name of the widest of some instructions that computes a block, as `intrinsic` takes it; None without one.

    See `multiplied`.
    """
    found = multiplied(block)
    if found is None:
        return None
    left, right, steps = found
    lanes = [int(v.dom.extent) for v in block.iter_vars if int(v.iter_type) == IterVar.DataPar][-1]
    for dot in dots:
        reads = left in (dot.left, dot.copied) and right in (dot.right, BITS if dot.right == "bfloat16" else dot.right)
        if reads and dot.steps == steps and lanes % dot.lanes == 0:
            return f"{dot.symbol}.{left}.{right}"
    return None


def parsed(name: str) -> tuple[Dot, str, str]:
    """The instruction that a name of `dot_of` stands for, and the dtypes in which it reads its operands."""
    symbol, left, right = name.split(".")
    return next(dot for dot in DOTS if dot.symbol == symbol), left, right


_DESCRIBED = """
@T.prim_func(s_tir=True)
def main(
    a: T.Buffer(({steps},), "{left}", offset_factor=1),
    b: T.Buffer(({lanes}, {steps}), "{right}", offset_factor=1),
    c: T.Buffer(({lanes},), "{result}", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(c[0:{lanes}], a[0:{steps}], b[0:{lanes}, 0:{steps}])
        T.writes(c[0:{lanes}])
        for k in T.serial(0, {steps}):
            for i in T.serial(0, {lanes}):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    c[vi] = c[vi] + {factors}
"""

_IMPLEMENTED = """
@T.prim_func(s_tir=True)
def main(
    a: T.Buffer(({steps},), "{left}", offset_factor=1),
    b: T.Buffer(({lanes}, {steps}), "{right}", offset_factor=1),
    c: T.Buffer(({lanes},), "{result}", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(c[0:{lanes}], a[0:{steps}], b[0:{lanes}, 0:{steps}])
        T.writes(c[0:{lanes}])
        c[T.ramp(0, 1, {lanes})] = T.call_extern(
            "{result}x{lanes}",
            "{symbol}",
            c.vload([0], "{result}x{lanes}"),
            T.broadcast(T.reinterpret("int32", a.vload([0], "{left}x{steps}")), {lanes}),
            T.reinterpret("int32x{lanes}", b.vload([0, 0], "{right}x{span}")),
        )
"""


def intrinsic(name: str) -> str:
    """A name of `dot_of` as that of a tensor intrinsic, which is registered when it is first asked for."""
    from tvm.s_tir import TensorIntrin
    from tvm.script import from_source

    if TensorIntrin.get(name, allow_missing=True) is None:
        dot, left, right = parsed(name)
        parts = {**dot.__dict__, "symbol": dot.symbol, "span": dot.lanes * dot.steps}
        parts |= {"left": left, "right": right, "factors": factors("a[vk]", "b[vi, vk]", left, right, dot.result)}
        described, implemented = (from_source(text.format(**parts)) for text in (_DESCRIBED, _IMPLEMENTED))
        TensorIntrin.register(name, described, implemented)
    return name


def factors(a: str, b: str, left: str, right: str, result: str) -> str:
    """The product of two loads of these dtypes, `widened`, in TVM's script."""
    bits = 'T.reinterpret("float32", T.shift_left(T.cast({}, "uint32"), T.uint32(16)))'
    return " * ".join(
        bits.format(load) if dtype == BITS else f'T.cast({load}, "{result}")' for load, dtype in ((a, left), (b, right))
    )


def used(function: tirx.PrimFunc) -> tuple[Dot, ...]:
    """The instructions whose functions a scheduled program calls."""
    symbols = {_called(call) for call in nodes(function.body, tvm.ir.Call)}
    return tuple(dot for dot in DOTS if dot.symbol in symbols)


def executed(statement: Any) -> int:
    """How many of the instructions, and of tile products, a statement of a scheduled program executes, in loops of
    fixed extents."""
    if isinstance(statement, tirx.For):
        inside = executed(statement.body)
        return inside and int(statement.extent) * inside
    if isinstance(statement, tirx.SeqStmt):
        return sum(map(executed, statement.seq))
    if isinstance(statement, tvm.s_tir.SBlockRealize):
        return executed(statement.block.body)
    symbols = {dot.symbol for dot in DOTS}
    called = [_called(call) for call in nodes(statement, tvm.ir.Call)]
    return sum(1 if symbol in symbols else amx.instructions(symbol) for symbol in called)


def imported(function: tirx.PrimFunc, entry: str = "") -> tirx.PrimFunc:
    """A program that is about to be compiled, with the definitions of the functions that it calls. `entry`: under which
    symbol."""
    text = (
        "".join(dot.definition for dot in used(function))
        + amx.definitions(function)
        + memory.definitions(function, entry)
    )
    if not text:
        return function
    return function.with_body(tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", text, function.body))


def _called(call: Any) -> str:
    """The symbol that a call of an external function names; "" for other calls."""
    if getattr(call.op, "name", "") != "tirx.call_extern":
        return ""
    return str(getattr(call.args[0], "value", call.args[0]))
