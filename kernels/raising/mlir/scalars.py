"""Operations of arith and math as instructions of LLVM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from xdsl.dialects import arith, builtin
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Operation

from kernels.raising.mlir.buffers import kind_of
from kernels.raising.mlir.code import Code, Words, float_word
from kernels.raising.reasons import Abstained, Reason

_BINARY: Mapping[str, str] = {
    "addi": "add", "subi": "sub", "muli": "mul", "divsi": "sdiv", "divui": "udiv", "remsi": "srem", "remui": "urem",
    "andi": "and", "ori": "or", "xori": "xor", "shli": "shl", "shrsi": "ashr", "shrui": "lshr",
    "addf": "fadd", "subf": "fsub", "mulf": "fmul", "divf": "fdiv", "remf": "frem",
}  # fmt: skip
_CASTS: Mapping[str, str] = {
    "extf": "fpext", "truncf": "fptrunc", "extsi": "sext", "extui": "zext", "trunci": "trunc", "sitofp": "sitofp",
    "uitofp": "uitofp", "fptosi": "fptosi", "fptoui": "fptoui",
}  # fmt: skip
_CHOICES: Mapping[str, str] = {
    "minsi": "smin", "maxsi": "smax", "minui": "umin", "maxui": "umax", "minnumf": "minnum", "maxnumf": "maxnum",
    "minimumf": "minimum", "maximumf": "maximum",
}  # fmt: skip
_FUNCTIONS: Mapping[str, str] = {
    "exp": "exp", "exp2": "exp2", "log": "log", "log2": "log2", "sqrt": "sqrt", "powf": "pow", "absf": "fabs",
    "floor": "floor", "ceil": "ceil", "sin": "sin", "cos": "cos", "tanh": "tanh", "fma": "fma",
}  # fmt: skip
_LIBRARY: Mapping[str, str] = {"erf": "erf", "tanh": "tanh"}
"""Functions that LLVM has no intrinsic for, or that not every target can lower: those of C's library."""

_INTEGER_ORDER = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
_FLOAT_ORDER = ("false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "uge", "ult", "ule", "une",
                "uno", "true")  # fmt: skip


def scalar(code: Code, op: Operation, values: Sequence[Words], flags: str = "") -> Words | None:
    """The value of an operation of scalars; None where it is none that is read here. `flags`: more of them for floats.

    Raises Abstained.
    """
    dialect, _, word = op.name.partition(".")
    if dialect not in ("arith", "math") or len(op.results) != 1:
        return None
    if isinstance(op, arith.ConstantOp):
        return _constant(op)
    kind, source = kind_of(op.results[0].type), kind_of(op.operands[0].type) if op.operands else ""
    fast = _flags(op, flags) if source in ("float", "double") else ""
    if word in _BINARY:
        return code.value(f"{_BINARY[word]}{fast or _wrapping(op)} {kind} {values[0]}, {values[1]}")
    if word in _CASTS:
        return values[0] if kind == source else code.value(f"{_CASTS[word]} {source} {values[0]} to {kind}")
    if word in ("cmpi", "cmpf"):
        number = op.properties["predicate"]
        assert isinstance(number, builtin.IntegerAttr)
        order = (_INTEGER_ORDER if word == "cmpi" else _FLOAT_ORDER)[number.value.data]
        return code.value(f"{word[0].replace('c', 'i' if word == 'cmpi' else 'f')}cmp{fast} {order} {source} "
                          f"{values[0]}, {values[1]}")  # fmt: skip
    if word in _CHOICES:
        return call(code, f"llvm.{_CHOICES[word]}", kind, values, fast)
    if word == "select":
        return code.value(f"select i1 {values[0]}, {kind} {values[1]}, {kind} {values[2]}")
    if word == "negf":
        return code.value(f"fneg{fast} {kind} {values[0]}")
    return _other(code, word, kind, source, values, fast)


def _other(code: Code, word: str, kind: str, source: str, values: Sequence[Words], fast: str) -> Words | None:
    if word in ("index_cast", "index_castui"):
        if kind == source:
            return values[0]
        wider = int(kind[1:]) > int(source[1:])
        cast = "trunc" if not wider else "zext" if word.endswith("ui") else "sext"
        return code.value(f"{cast} {source} {values[0]} to {kind}")
    if word in ("ceildivsi", "floordivsi"):
        raise Abstained(Reason.OPERATOR, f"the operation arith.{word}")
    if word == "rsqrt":
        root = call(code, "llvm.sqrt", kind, values, fast)
        return code.value(f"fdiv{fast} {kind} {float_word(1.0, kind)}, {root}")
    if word == "absi":
        return code.value(f"call {kind} @llvm.abs.{kind}({kind} {values[0]}, i1 false)")
    if word in _LIBRARY:
        return library(code, _LIBRARY[word], kind, values)
    if word in _FUNCTIONS:
        return call(code, f"llvm.{_FUNCTIONS[word]}", kind, values, fast)
    return None


def call(code: Code, name: str, kind: str, values: Sequence[Words], fast: str = "") -> Words:
    """A call of an intrinsic that is overloaded for one type."""
    short = {"float": "f32", "double": "f64"}.get(kind, kind)
    arguments = ", ".join(f"{kind} {value}" for value in values)
    return code.value(f"call{fast} {kind} @{name}.{short}({arguments})")


def library(code: Code, name: str, kind: str, values: Sequence[Words]) -> Words:
    arguments = ", ".join(f"{kind} {value}" for value in values)
    return code.value(f"call {kind} @{name}{'f' if kind == 'float' else ''}({arguments})")


def number(value: float, kind: str) -> Words:
    """A constant of a type."""
    return float_word(float(value), kind) if kind in ("float", "double") else str(int(value))


def _constant(op: arith.ConstantOp) -> Words:
    value = op.value
    kind = kind_of(op.results[0].type)
    if isinstance(value, builtin.IntegerAttr):
        return str(value.value.data) if kind != "i1" else "true" if value.value.data else "false"
    if isinstance(value, builtin.FloatAttr):
        return float_word(value.value.data, kind)
    raise Abstained(Reason.TYPE, "a constant that is no number")


def _flags(op: Operation, more: str) -> str:
    given = op.properties.get("fastmath", op.attributes.get("fastmath"))
    flags = sorted(str(flag) for flag in given.data) if isinstance(given, arith.FastMathFlagsAttr) else []
    flags = list(dict.fromkeys([*flags, *more.split()]))
    if len(flags) == len(FastMathFlag):
        flags = ["fast"]
    return "".join(f" {flag}" for flag in flags)


def _wrapping(op: Operation) -> str:
    given = op.properties.get("overflowFlags", op.attributes.get("overflowFlags"))
    flags = sorted(str(flag) for flag in given.data) if isinstance(given, arith.IntegerOverflowAttr) else []
    if op.operands and isinstance(op.operands[0].type, builtin.IndexType) and op.name != "arith.shli":
        flags = ["nsw"] if op.name in ("arith.addi", "arith.subi", "arith.muli") else []
    return "".join(f" {flag}" for flag in flags)


# --- what named operations of linalg compute of elements

_UNARY: Mapping[str, str] = {"exp": "llvm.exp", "log": "llvm.log", "abs": "llvm.fabs", "ceil": "llvm.ceil",
                             "floor": "llvm.floor", "sqrt": "llvm.sqrt"}  # fmt: skip
_ARITHMETIC: Mapping[str, tuple[str, str]] = {
    "add": ("fadd", "add"), "sub": ("fsub", "sub"), "mul": ("fmul", "mul"), "div": ("fdiv", "sdiv"),
    "div_unsigned": ("fdiv", "udiv"),
}  # fmt: skip


def body(code: Code, name: str, values: Sequence[Words], kinds: Sequence[str], reassoc: bool) -> Words:
    """The element of the result of a named operation. The last of `values` is the old one. Raises Abstained."""
    kind, is_float = kinds[-1], kinds[-1] in ("float", "double")
    own = values[-1]
    if name in ("multiply-add", "pool-sum"):
        flag = " reassoc" if reassoc and is_float else ""
        factors = [converted(code, v, k, kind) for v, k in zip(values[:-1], kinds[:-1], strict=True)]
        term = factors[0]
        if name == "multiply-add":
            term = code.value(f"{'fmul' if is_float else 'mul'} {kind} {factors[0]}, {factors[1]}")
        return code.value(f"{'fadd' if is_float else 'add'}{flag} {kind} {own}, {term}")
    if name in ("pool-max", "pool-min", "max", "min"):
        which = name[-3:]
        intrinsic = f"llvm.{which}imum" if is_float else f"llvm.s{which}"
        return call(code, intrinsic, kind, [values[0], own if name.startswith("pool") else values[1]])
    if name in ("copy", "fill"):
        return converted(code, values[0], kinds[0], kind)
    if name == "select":
        return code.value(f"select i1 {values[0]}, {kind} {values[1]}, {kind} {values[2]}")
    if name in _ARITHMETIC:
        return code.value(f"{_ARITHMETIC[name][not is_float]} {kind} {values[0]}, {values[1]}")
    if is_float:
        found = _of_floats(code, name, kind, values)
        if found is not None:
            return found
    raise Abstained(Reason.OPERATOR, f"the operation linalg.{name} of {kind}")


def _of_floats(code: Code, name: str, kind: str, values: Sequence[Words]) -> Words | None:
    one = float_word(1.0, kind)
    made: Mapping[str, Callable[[], Words]] = {
        "negf": lambda: code.value(f"fneg {kind} {values[0]}"),
        "square": lambda: code.value(f"fmul {kind} {values[0]}, {values[0]}"),
        "reciprocal": lambda: code.value(f"fdiv {kind} {one}, {values[0]}"),
        "rsqrt": lambda: code.value(f"fdiv {kind} {one}, {call(code, 'llvm.sqrt', kind, values[:1])}"),
        "powf": lambda: call(code, "llvm.pow", kind, values[:2]),
        "tanh": lambda: library(code, "tanh", kind, values[:1]),
        "erf": lambda: library(code, "erf", kind, values[:1]),
    }
    if name in made:
        return made[name]()
    return call(code, _UNARY[name], kind, values[:1]) if name in _UNARY else None


def converted(code: Code, value: Words, kind: str, wanted: str) -> Words:
    """A signed or float element in the type of the result. Raises Abstained."""
    if kind == wanted:
        return value
    floats = {"float": 32, "double": 64}
    if kind in floats and wanted in floats:
        return code.value(f"{'fpext' if floats[kind] < floats[wanted] else 'fptrunc'} {kind} {value} to {wanted}")
    if kind not in floats and wanted in floats:
        return code.value(f"sitofp {kind} {value} to {wanted}")
    if kind not in floats and wanted not in floats:
        return code.value(f"{'sext' if int(kind[1:]) < int(wanted[1:]) else 'trunc'} {kind} {value} to {wanted}")
    raise Abstained(Reason.TYPE, f"an element of {kind} made one of {wanted}")
