"""LLVM's operators and sets of iterations in tensor expressions."""

from __future__ import annotations

import functools
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


def dtype_of(value: Any) -> str:
    """The dtype of an element or of what is computed of some."""
    kind = getattr(value, "ty", None)
    return str(value.dtype if kind is None else kind.dtype)


def _extreme(which: str) -> Callable[[Any, Any], Any]:
    """maximum or minimum of IEEE 754: NaN where one is, and -0 less than +0."""

    def chosen(a: Any, b: Any) -> Any:
        dtype = dtype_of(a)
        bits = f"int{dtype.removeprefix('float')}"
        both = [tirx.reinterpret(bits, value) for value in (a, b)]
        zero = tirx.reinterpret(dtype, both[0] & both[1] if which == "maximum" else both[0] | both[1])
        first = tirx.any(a > b if which == "maximum" else a < b, tirx.isnan(a))
        return tirx.Select(a.equal(b), zero, tirx.Select(first, a, b))

    return chosen


MAXIMUM, MINIMUM = _extreme("maximum"), _extreme("minimum")
NEUTRAL: Mapping[str, float] = {"add": 0, "mul": 1}
COMBINED: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "max": tirx.max, "min": tirx.min,
    "maximum": MAXIMUM, "minimum": MINIMUM,
}  # fmt: skip
_PRODUCT = te.comm_reducer(lambda a, b: a * b, lambda dtype: tirx.const(1, dtype), "product")


def _greater(a: Any, b: Any) -> Any:
    return tirx.max(a, b)


def _less(a: Any, b: Any) -> Any:
    return tirx.min(a, b)


_GREATEST = te.comm_reducer(_greater, lambda dtype: least_of("argmax", dtype), "greatest")
_LEAST = te.comm_reducer(_less, lambda dtype: least_of("argmin", dtype), "least")
REDUCERS: Mapping[str, Callable[..., Any]] = {
    "add": te.sum, "mul": _PRODUCT, "max": _GREATEST, "min": _LEAST,  # te.max begins with the least finite number
    "maximum": te.comm_reducer(MAXIMUM, lambda dtype: tirx.const(float("-inf"), dtype), "maximum"),
    "minimum": te.comm_reducer(MINIMUM, lambda dtype: tirx.const(float("inf"), dtype), "minimum"),
}  # fmt: skip


def neutral_of(combine: str, dtype: str) -> Any:
    if combine in NEUTRAL:
        return tirx.const(NEUTRAL[combine], dtype)
    return least_of(f"arg{combine[:3]}", dtype)


def least_of(combine: str, dtype: str) -> Any:
    """What no value is worse than, for argmax and argmin."""
    if dtype.startswith("float"):
        return tirx.const(float("-inf" if combine == "argmax" else "inf"), dtype)
    return te.min_value(dtype) if combine == "argmax" else te.max_value(dtype)


def better_than(combine: str, first: bool) -> Callable[[Any, Any], Any]:
    """Whether a later value takes the place of an earlier one. NaNs never do, and none takes theirs."""
    if combine == "argmax":
        return (lambda a, b: a > b) if first else (lambda a, b: a >= b)
    return (lambda a, b: a < b) if first else (lambda a, b: a <= b)


@functools.cache
def extreme_of(combine: str, first: bool) -> Callable[..., Any]:
    """The reducer of pairs of a place and a value to the greatest or least value; of equal ones the first or last."""
    better = better_than(combine, first=True)

    def chosen(a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, Any]:
        nearer = b[0] < a[0] if first else b[0] > a[0]
        takes = tirx.any(better(b[1], a[1]), tirx.all(b[1].equal(a[1]), nearer))
        return tirx.Select(takes, b[0], a[0]), tirx.Select(takes, b[1], a[1])

    def none(place: str, value: str) -> tuple[Any, Any]:
        return tirx.const(-1, place), least_of(combine, value)

    return te.comm_reducer(chosen, none, combine)  # type: ignore[no-any-return]


def called(name: str, args: Sequence[Any]) -> Any:
    simple = {
        "exp": te.exp, "log": te.log, "sqrt": te.sqrt, "tanh": te.tanh, "sin": te.sin, "cos": te.cos, "fabs": te.abs,
        "floor": te.floor, "ceil": te.ceil, "erf": te.erf, "pow": te.power, "abs": te.abs,
    }  # fmt: skip
    if name in simple:
        return simple[name](*args)
    if name in ("maximum", "minimum"):
        return COMBINED[name](*args)
    if name in ("maxnum", "minnum"):
        a, b = args
        return tirx.Select(tirx.any(tirx.isnan(b), a > b if name == "maxnum" else a < b), a, b)
    if name in ("smax", "smin"):
        return (tirx.max if name == "smax" else tirx.min)(*args)
    raise Abstained(Reason.OPERATOR, f"the function {name} is not raised")


_PLAIN: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": lambda a, b: a.equal(b), "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}  # fmt: skip
_OPPOSITE = {"eq": "ne", "ne": "eq", "gt": "le", "le": "gt", "ge": "lt", "lt": "ge", "ord": "uno", "uno": "ord"}


def compared(predicate: str, a: Any, b: Any, negated: bool = False) -> Any:
    """A comparison of LLVM, or its negation: exact for NaNs. TVM itself takes `not a > b` for `a <= b`, and `a != a`
    for false: neither is written here for floats."""
    sign, rest = (predicate[0], predicate[1:]) if predicate[1:] in (*_PLAIN, "ne") else ("", predicate)
    if negated:
        sign, rest = {"o": "u", "u": "o"}.get(sign, sign) if sign != "s" else "s", _OPPOSITE.get(rest, rest)
    if not dtype_of(a).startswith("float"):
        if rest == "ne":
            return tirx.NE(a, b)
        if rest in _PLAIN and (sign == "s" or rest == "eq"):
            return _PLAIN[rest](a, b)
    elif rest in _PLAIN or rest in ("ne", "uno", "ord"):
        if rest == "ord":
            return tirx.Not(_unordered(a, b))
        ordered = [] if rest == "uno" else [a < b, a > b] if rest == "ne" else [_PLAIN[rest](a, b)]
        return tirx.any(*ordered, *([_unordered(a, b)] if sign == "u" or rest == "uno" else []))
    raise Abstained(Reason.OPERATOR, f"the comparison {predicate} is not raised")


def _unordered(a: Any, b: Any) -> Any:
    return tirx.any(*(tirx.isnan(value) for value in (a, b) if not isinstance(value, tirx.FloatImm)))


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
