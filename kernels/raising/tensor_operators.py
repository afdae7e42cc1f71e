"""LLVM's operators and sets of iterations in tensor expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import te, tirx

from kernels.raising.polyhedra import isl
from kernels.raising.reasons import Abstained, Reason

CASTS = ("sext", "trunc", "sitofp", "fpext", "fptrunc", "fptosi")
OPERATORS: Mapping[str, Callable[..., Any]] = {
    "fadd": lambda a, b: a + b, "fsub": lambda a, b: a - b, "fmul": lambda a, b: a * b, "fdiv": lambda a, b: a / b,
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "fneg": lambda a: -a, "neg": lambda a: -a,
}  # fmt: skip
NEUTRAL: Mapping[str, float] = {"add": 0, "mul": 1}
COMBINED: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "max": tirx.max, "min": tirx.min,
}  # fmt: skip
_PRODUCT = te.comm_reducer(lambda a, b: a * b, lambda dtype: tirx.const(1, dtype), "product")
REDUCERS: Mapping[str, Callable[..., Any]] = {"add": te.sum, "mul": _PRODUCT, "max": te.max, "min": te.min}


def neutral_of(combine: str, dtype: str) -> Any:
    if combine in NEUTRAL:
        return tirx.const(NEUTRAL[combine], dtype)
    return te.min_value(dtype) if combine == "max" else te.max_value(dtype)


def called(name: str, args: Sequence[Any]) -> Any:
    simple = {
        "exp": te.exp, "log": te.log, "sqrt": te.sqrt, "tanh": te.tanh, "sin": te.sin, "cos": te.cos, "fabs": te.abs,
        "floor": te.floor, "ceil": te.ceil, "erf": te.erf, "pow": te.power, "abs": te.abs,
    }  # fmt: skip
    if name in simple:
        return simple[name](*args)
    if name in ("maxnum", "smax"):
        return tirx.max(*args)
    if name in ("minnum", "smin"):
        return tirx.min(*args)
    raise Abstained(Reason.OPERATOR, f"the function {name} is not raised")


def compared(predicate: str, a: Any, b: Any) -> Any:
    """An ordered comparison, or the negation of one: exact for NaNs."""
    plain = {"eq": lambda: a.equal(b), "ne": lambda: tirx.NE(a, b), "gt": lambda: a > b, "ge": lambda: a >= b,
             "lt": lambda: a < b, "le": lambda: a <= b}  # fmt: skip
    opposite = {"gt": "le", "ge": "lt", "lt": "ge", "le": "gt", "ne": "eq"}
    if predicate in ("eq", "ne"):
        return plain[predicate]()
    sign, rest = predicate[0], predicate[1:]
    if sign in ("o", "s") and rest in plain and not (sign == "o" and rest == "ne"):
        return plain[rest]()
    if sign == "u" and rest in opposite and str(a.dtype).startswith("float"):
        return plain["ne"]() if rest == "ne" else tirx.Not(plain[opposite[rest]]())
    raise Abstained(Reason.OPERATOR, f"the comparison {predicate} is not raised")


def bounds(domain: isl.Set, position: int) -> tuple[int, int]:
    return int(domain.dim_min_val(position).to_python()), int(domain.dim_max_val(position).to_python())


def box_text(loops: Sequence[str], ranges: Mapping[str, tuple[int, int]]) -> str:
    bounds = " and ".join(f"{low} <= {c} <= {high}" for c, (low, high) in ranges.items())
    return f"{{ [{', '.join(loops)}] : {bounds or '0 = 0'} }}"


def membership(domain: isl.Set, loops: Sequence[str], env: Mapping[str, Any]) -> Any:
    """Whether counters are in a set. Raises Abstained where the set is not one of plain inequalities."""
    ways = []
    for part in domain.get_basic_sets():
        if part.dim(isl.dim_type.div):
            raise Abstained(Reason.SUBSCRIPT, "iterations that are no plain inequalities")
        literals = []
        for constraint in part.get_constraints():
            total: Any = tirx.const(int(constraint.get_constant_val().to_python()), "int32")
            for position, name in enumerate(loops):
                factor = int(constraint.get_coefficient_val(isl.dim_type.set, position).to_python())
                if factor:
                    total = total + env[name] * factor
            literals.append(total.equal(0) if constraint.is_equality() else total >= 0)
        ways.append(tirx.all(*literals) if literals else tirx.const(True, "bool"))
    return tirx.any(*ways) if ways else tirx.const(False, "bool")
