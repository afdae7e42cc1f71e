"""How an element is updated: by a sum, a product, a maximum or a minimum, or by none of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernels.raising.expressions import Condition, Expr

_GREATER = {"ogt": "max", "oge": "max", "olt": "min", "ole": "min", "sgt": "max", "sge": "max", "slt": "min",
            "sle": "min", "ugt": "umax", "uge": "umax", "ult": "umin", "ule": "umin"}  # fmt: skip
_OPPOSITE = {"ogt": "ule", "oge": "ult", "olt": "uge", "ole": "ugt", "ugt": "ole", "uge": "olt", "ult": "oge",
             "ule": "ogt", "sgt": "sle", "sge": "slt", "slt": "sge", "sle": "sgt"}  # fmt: skip
_SWAPPED = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}


def update(value: Expr, own: Expr) -> tuple[str, Expr, bool] | None:
    """The operator, the term, and whether the order of terms does not matter, of a value that updates `own`.

    The operator is "nan" for a maximum or minimum whose result depends on the order where there are NaNs.
    """
    if value.op in ("fadd", "add", "fsub", "sub"):
        terms = summands(value)
        mine = [t for t in terms if t == (1, own)]
        if len(mine) == 1:
            rest = [t for t in terms if t != (1, own)]
            integers = value.op in ("add", "sub")
            reordered = integers or all(is_reassociable(node) for node in _spine(value))
            return "add", _sum(rest, value), reordered
        return None
    if value.op in ("fmul", "mul"):
        other = [a for a in value.args if a != own]
        if len(other) != 1:
            return None
        return "mul", other[0], value.op == "mul" or is_reassociable(value)
    if value.op == "call" and value.value in ("maximum", "minimum"):
        other = [a for a in value.args if a != own]
        return (value.value, other[0], True) if len(other) == 1 else None
    if value.op == "call" and value.value in ("maxnum", "minnum", "smax", "smin"):
        other = [a for a in value.args if a != own]
        return (
            (value.value[-6:-3] if value.value.endswith("num") else value.value[1:], other[0], True)
            if (len(other) == 1)
            else None
        )
    if value.op == "select" and isinstance(value.value, Condition):
        return choice(value, own)
    return None


def choice(value: Expr, own: Expr) -> tuple[str, Expr, bool] | None:
    """The same of a choice by data: of the greater or the less, or of an update and none."""
    found = _compared(value, own)
    if found is None:
        return None
    predicate, compared, other, taken_if_true = found
    if set(compared.args) == {own, other}:
        kind = _GREATER.get(predicate)
        careless = "nnan" in compared.flags or "fast" in compared.flags
        if compared.op == "fcmp" and predicate[0] == "u" and not careless:
            return "nan", other, False
        if kind is None or (kind.startswith("u") and not careless):
            return None
        return kind.removeprefix("u"), other, True
    inner = update(other, own)
    if inner is None or inner[0] not in ("add", "mul"):
        return None
    if own in compared.walk():
        return None
    neutral = Expr("const", value.type, value=0 if inner[0] == "add" else 1)
    term = inner[1]
    chosen = replace(value, args=(term, neutral) if taken_if_true else (neutral, term))
    return inner[0], chosen, inner[2]


def takes_first(value: Expr, own: Expr) -> bool | None:
    """Of a choice of the greater or the less: whether the first of equals stays. None where it is no such choice."""
    found = _compared(value, own)
    return None if found is None or found[0] not in _GREATER else found[0][1:] in ("gt", "lt")


def _compared(value: Expr, own: Expr) -> tuple[str, Expr, Expr, bool] | None:
    """Of a choice by data of `own` or another value: the predicate by which the other one is taken, its comparison, the
    other, and whether it is taken where that holds. Where the two are compared the other stands on the left."""
    leaf, (a, b) = value.value, value.args
    opposite = leaf.kind == "not"
    if opposite:
        [leaf] = leaf.parts
    if leaf.kind != "data" or leaf.value is None or own not in (a, b):
        return None
    compared = leaf.value
    other = b if a == own else a
    taken_if_true = a != own
    predicate = compared.value
    if opposite:
        predicate = _OPPOSITE.get(predicate)
    if not taken_if_true:
        predicate = _OPPOSITE.get(predicate)
    if predicate is None or compared.op not in ("fcmp", "icmp"):
        return None
    if set(compared.args) == {own, other} and compared.args[0] == own:  # own < x means x > own
        predicate = predicate[0] + _SWAPPED.get(predicate[1:], predicate[1:])
    return predicate, compared, other, taken_if_true


def summands(value: Expr) -> list[tuple[int, Expr]]:
    """Signed terms of a sum, without looking into products."""
    if value.op in ("fadd", "add"):
        return [t for part in value.args for t in summands(part)]
    if value.op in ("fsub", "sub"):
        return [*summands(value.args[0]), *((-s, t) for s, t in summands(value.args[1]))]
    if value.op == "fneg":
        return [(-s, t) for s, t in summands(value.args[0])]
    return [(1, value)]


def _spine(value: Expr) -> list[Expr]:
    return [n for n in value.walk() if n.op in ("fadd", "fsub")][:1]


def _sum(terms: Sequence[tuple[int, Expr]], like: Expr) -> Expr:
    add, negate = ("fadd", "fneg") if like.op.startswith("f") else ("add", "neg")
    parts = [t if s > 0 else Expr(negate, t.type, (t,), size=t.size + 1) for s, t in terms]
    total = parts[0] if parts else Expr("const", like.type, value=0)
    for part in parts[1:]:
        total = Expr(add, like.type, (total, part), flags=like.flags, size=total.size + part.size + 1)
    return total


def is_reassociable(node: Expr) -> bool:
    return "reassoc" in node.flags or "fast" in node.flags
