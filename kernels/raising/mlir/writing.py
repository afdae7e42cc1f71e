"""Text of MLIR: values, index arithmetic, and bodies of linalg.generic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernels.raising.access import Element
from kernels.raising.expressions import Condition, Expr
from kernels.raising.ir import FAST_MATH
from kernels.raising.ops import ACCUMULATED
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason

TYPES: Mapping[str, str] = {"float": "f32", "double": "f64", "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64",
                            "i1": "i1"}  # fmt: skip
"""MLIR's names of LLVM's types."""

_OPERATORS: Mapping[str, str] = {
    "fadd": "addf", "fsub": "subf", "fmul": "mulf", "fdiv": "divf", "frem": "remf", "add": "addi", "sub": "subi",
    "mul": "muli", "sdiv": "divsi", "udiv": "divui", "srem": "remsi", "urem": "remui", "and": "andi", "or": "ori",
    "xor": "xori", "shl": "shli", "ashr": "shrsi", "lshr": "shrui",
}  # fmt: skip
_CASTS: Mapping[str, str] = {
    "sext": "extsi", "zext": "extui", "trunc": "trunci", "sitofp": "sitofp", "uitofp": "uitofp", "fpext": "extf",
    "fptrunc": "truncf", "fptosi": "fptosi", "fptoui": "fptoui",
}  # fmt: skip
_FUNCTIONS: Mapping[str, str] = {
    "exp": "math.exp", "exp2": "math.exp2", "log": "math.log", "log2": "math.log2", "sqrt": "math.sqrt",
    "pow": "math.powf", "fabs": "math.absf", "floor": "math.floor", "ceil": "math.ceil", "sin": "math.sin",
    "cos": "math.cos", "tanh": "math.tanh", "erf": "math.erf", "abs": "math.absi", "maxnum": "arith.maxnumf",
    "minnum": "arith.minnumf", "maximum": "arith.maximumf", "minimum": "arith.minimumf", "smax": "arith.maxsi",
    "smin": "arith.minsi", "umax": "arith.maxui", "umin": "arith.minui",
}  # fmt: skip
COMBINED: Mapping[str, tuple[str, str]] = {
    "add": ("arith.addf", "arith.addi"), "mul": ("arith.mulf", "arith.muli"), "max": ("arith.maxnumf", "arith.maxsi"),
    "min": ("arith.minnumf", "arith.minsi"), "maximum": ("arith.maximumf", "arith.maxsi"),
    "minimum": ("arith.minimumf", "arith.minsi"),
}  # fmt: skip
"""How a reduction puts a term to what it has: of floats, of integers."""


@dataclass
class Text:
    """Lines, and how far they are indented. `names`: SSA values by symbols of parameters; `taken`: counted up for new
    names, which all texts of a function share."""

    names: Mapping[str, str]
    lines: list[str] = field(default_factory=list)
    depth: int = 1
    taken: list[int] = field(default_factory=lambda: [0])

    def inside(self) -> Text:
        """A text for what is nested."""
        return Text(self.names, [], self.depth + 1, self.taken)

    def do(self, line: str) -> None:
        self.lines.append("  " * self.depth + line)

    def value(self, operation: str) -> str:
        self.taken[0] += 1
        name = f"%v{self.taken[0]}"
        self.do(f"{name} = {operation}")
        return name

    def index(self, poly: Poly, counters: Mapping[str, str] | None = None) -> str:
        """A polynomial of parameters and counters, of the type index. Raises Abstained where one is not known."""
        total = ""
        for monomial, factor in poly.terms:
            part = "" if monomial else self.value(f"arith.constant {factor} : index")
            for symbol in monomial:
                name = {**self.names, **(counters or {})}.get(symbol)
                if name is None:
                    raise Abstained(Reason.SIZES, "a size that is computed of others")
                part = name if not part else self.value(f"arith.muli {part}, {name} : index")
            if monomial and factor != 1:
                constant = self.value(f"arith.constant {factor} : index")
                part = self.value(f"arith.muli {part}, {constant} : index")
            total = part if not total else self.value(f"arith.addi {total}, {part} : index")
        return total or self.value("arith.constant 0 : index")


def number(value: float, kind: str) -> str:
    """A constant with its type."""
    if kind not in ("float", "double"):
        return f"{int(value)} : {TYPES[kind]}"
    if value != value or value in (float("inf"), float("-inf")):
        double = kind == "double"
        bits = {"inf": "7FF0" if double else "7F80", "-inf": "FFF0" if double else "FF80"}
        return f"0x{bits.get(str(value), '7FF8' if double else '7FC0'):0<{16 if double else 8}} : {TYPES[kind]}"
    return f"{value:.17e} : {TYPES[kind]}"


def fast(flags: frozenset[str]) -> str:
    """Flags of fast math as MLIR writes them."""
    found = sorted(flags & FAST_MATH)
    return f" fastmath<{'fast' if 'fast' in found else ','.join(found)}>" if found else ""


class Values:
    """Writes values of operations at one point. `element` gives the SSA value of a read; `counters`: those of loops."""

    def __init__(self, text: Text, element: Callable[[Text, Element], str], counters: Mapping[str, str]) -> None:
        self._element, self._counters = element, counters
        self._text = text

    def of(self, expr: Expr, text: Text | None = None, reduced: str = "") -> str:
        """Raises Abstained."""
        text = text or self._text
        kind = TYPES.get(expr.type)
        if kind is None:
            raise Abstained(Reason.TYPE, f"a value of the type {expr.type[:40]}")
        if expr.op == ACCUMULATED:
            return reduced
        if expr.op == "const":
            return text.value(f"arith.constant {number(expr.value, expr.type)}")
        if expr.op == "param":
            return text.names[expr.value]
        if expr.op == "index":
            index = text.index(expr.value, self._counters)
            return text.value(f"arith.index_cast {index} : index to {kind}")
        if expr.op == "read":
            return self._element(text, expr.value)
        if expr.op == "select":
            return self._chosen(expr, text, reduced)
        args = [self.of(arg, text, reduced) for arg in expr.args]
        return self._operator(expr, args, kind, text)

    def _operator(self, expr: Expr, args: Sequence[str], kind: str, text: Text) -> str:
        flags = fast(expr.flags)
        if expr.op == "fadd" and "fused" in expr.flags:
            raise Abstained(Reason.OPERATOR, "a fused product and sum")
        if expr.op in _OPERATORS:
            more = flags if kind.startswith("f") else ""
            return text.value(f"arith.{_OPERATORS[expr.op]} {args[0]}, {args[1]}{more} : {kind}")
        if expr.op in _CASTS:
            return text.value(f"arith.{_CASTS[expr.op]} {args[0]} : {TYPES[expr.args[0].type]} to {kind}")
        if expr.op == "fneg":
            return text.value(f"arith.negf {args[0]}{flags} : {kind}")
        if expr.op == "neg" and kind.startswith("f"):
            return text.value(f"arith.negf {args[0]} : {kind}")
        if expr.op == "neg":
            zero = text.value(f"arith.constant 0 : {kind}")
            return text.value(f"arith.subi {zero}, {args[0]} : {kind}")
        if expr.op == "call" and expr.value in _FUNCTIONS:
            more = flags if kind.startswith("f") else ""
            return text.value(f"{_FUNCTIONS[expr.value]} {', '.join(args)}{more} : {kind}")
        raise Abstained(Reason.OPERATOR, f"the operator {expr.value if expr.op == 'call' else expr.op}")

    def _chosen(self, expr: Expr, text: Text, reduced: str) -> str:
        condition = self.condition(expr.value, text, reduced)
        return choice(text, condition, TYPES[expr.type], lambda t: self.of(expr.args[0], t, reduced),
                      lambda t: self.of(expr.args[1], t, reduced))  # fmt: skip

    def condition(self, condition: Condition, text: Text, reduced: str = "") -> str:
        kind = condition.kind
        if kind in ("true", "false"):
            return text.value(f"arith.constant {kind}")
        if kind in ("and", "or"):
            parts = [self.condition(part, text, reduced) for part in condition.parts]
            found = parts[0]
            for part in parts[1:]:
                found = text.value(f"arith.{kind}i {found}, {part} : i1")
            return found
        if kind == "not":
            inner, true = self.condition(condition.parts[0], text, reduced), text.value("arith.constant true")
            return text.value(f"arith.xori {inner}, {true} : i1")
        if condition.poly is not None:
            index, zero = text.index(condition.poly, self._counters), text.value("arith.constant 0 : index")
            predicate = {"ge": "sge", "eq": "eq", "ne": "ne"}[kind]
            return text.value(f"arith.cmpi {predicate}, {index}, {zero} : index")
        compared: Any = condition.value
        a, b = (self.of(arg, text, reduced) for arg in compared.args)
        flags = fast(compared.flags) if compared.op == "fcmp" else ""
        operation = "cmpf" if compared.op == "fcmp" else "cmpi"
        return text.value(f"arith.{operation} {compared.value}, {a}, {b}{flags} : {TYPES[compared.args[0].type]}")


def choice(text: Text, condition: str, kind: str, then: Callable[[Text], str], otherwise: Callable[[Text], str]) -> str:
    """Either of two values; what only one needs is computed where that one is."""
    ways = []
    for write in (then, otherwise):
        inner = text.inside()
        ways.append((inner, write(inner)))
    if not any("tensor.extract" in line for inner, _ in ways for line in inner.lines):
        for inner, _ in ways:
            text.lines += [line[2:] for line in inner.lines]
        return text.value(f"arith.select {condition}, {ways[0][1]}, {ways[1][1]} : {kind}")
    name = text.value(f"scf.if {condition} -> ({kind}) {{")
    for (inner, value), end in zip(ways, ("} else {", "}"), strict=True):
        text.lines += inner.lines
        text.do(f"  scf.yield {value} : {kind}")
        text.do(end)
    return name
