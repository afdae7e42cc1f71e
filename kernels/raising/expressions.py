"""What instructions compute, as trees: values, conditions, addresses, and the accesses to memory in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kernels.raising.polynomials import Poly

MOST_NODES = 400
"""A value with more nodes is not looked at: values are trees here, shared parts count as often as they are used."""


@dataclass(frozen=True)
class Expr:
    """A value of `type` (LLVM's names). `op` is an LLVM opcode or one of

    const (value: a number), param (value: an argument's name), index (value: a Poly), load (value: an Access),
    select (a condition and two values), call (value: a function's name), fcmp and icmp (value: the predicate),
    and the conditions that are trees of bounds: bounds (value: a Condition).
    """

    op: str
    type: str
    args: tuple[Expr, ...] = ()
    value: Any = None
    flags: frozenset[str] = frozenset()
    size: int = field(default=1, compare=False)

    def walk(self) -> Iterator[Expr]:
        """Itself and all below it, those in conditions too."""
        yield self
        if isinstance(self.value, Condition):
            for leaf in self.value.leaves:
                if leaf.value is not None:
                    yield from leaf.value.walk()
        for part in self.args:
            yield from part.walk()

    def loads(self) -> list[Access]:
        return [node.value for node in self.walk() if node.op == "load"]


@dataclass(frozen=True, eq=False)
class Access:
    """A read or write of one element: of which array, at which byte, when, under which conditions.

    `time` alternates places in a block sequence with loop symbols, outermost first. Accesses are equal only if they
    are the same one.
    """

    base: str
    offset: Poly
    type: str
    time: tuple[int | str, ...]
    when: Condition
    line: int | None

    @cached_property
    def loops(self) -> tuple[str, ...]:
        """The symbols of the loops around, outermost first."""
        return tuple(part for part in self.time if isinstance(part, str))


# --- conditions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """A boolean over counters and parameters. `kind`: true, false, ge (poly >= 0), eq (poly == 0), ne, and, or,
    data (`value` is an Expr that reads memory or floats; `poly` is None), not (of data only)."""

    kind: str
    poly: Poly | None = None
    parts: tuple[Condition, ...] = ()
    value: Expr | None = None

    @property
    def leaves(self) -> list[Condition]:
        return [leaf for part in self.parts for leaf in part.leaves] if self.parts else [self]

    @property
    def is_affine(self) -> bool:
        return all(leaf.kind not in ("data", "not") for leaf in self.leaves)


TRUE, FALSE = Condition("true"), Condition("false")


def at_least_zero(poly: Poly) -> Condition:
    constant = poly.constant
    return Condition("ge", poly) if constant is None else TRUE if constant >= 0 else FALSE


def equals_zero(poly: Poly) -> Condition:
    constant = poly.constant
    return Condition("eq", poly) if constant is None else TRUE if constant == 0 else FALSE


def both(*conditions: Condition) -> Condition:
    parts: list[Condition] = []
    for condition in conditions:
        parts.extend(conjuncts(condition))
    parts = [p for p in dict.fromkeys(parts) if p != TRUE]
    if FALSE in parts or any(negated(p) in parts for p in parts if not p.parts):
        return FALSE
    return TRUE if not parts else parts[0] if len(parts) == 1 else Condition("and", parts=tuple(parts))


def either(*conditions: Condition) -> Condition:
    """A disjunction, made smaller where two parts differ in one negated literal: paths that meet again."""
    parts: list[Condition] = []
    for condition in conditions:
        parts.extend(condition.parts if condition.kind == "or" else [condition])
    parts = [p for p in dict.fromkeys(parts) if p != FALSE]
    changed = True
    while changed and len(parts) > 1:
        changed = False
        for i in range(len(parts)):
            for j in range(i + 1, len(parts)):
                joined = _joined(parts[i], parts[j])
                if joined is not None:
                    parts = [p for k, p in enumerate(parts) if k not in (i, j)] + [joined]
                    changed = True
                    break
            if changed:
                break
    if TRUE in parts:
        return TRUE
    return FALSE if not parts else parts[0] if len(parts) == 1 else Condition("or", parts=tuple(parts))


def _joined(a: Condition, b: Condition) -> Condition | None:
    """One condition for a or b; None where that is no shorter. Parts stay in order: it decides what is recognized."""
    first, second = (tuple(p for p in conjuncts(c) if p != TRUE) for c in (a, b))
    mine, theirs = [p for p in first if p not in second], [p for p in second if p not in first]
    if not mine:
        return a
    if not theirs:
        return b
    if _equal(negated(both(*mine)), both(*theirs)):
        return both(*[p for p in first if p in second])
    if len(mine) == 1 and negated(mine[0]) in theirs:
        # p or (not p and q) is p or q
        rest = both(*[p for p in second if p != negated(mine[0])])
        return None if rest == b else either(a, rest) if len(first) == 1 else None
    return None


def _equal(a: Condition, b: Condition) -> bool:
    """Whether two conditions have the same parts, in whatever order."""
    return a == b or (a.kind == b.kind and a.kind in ("and", "or") and set(a.parts) == set(b.parts))


def conjuncts(condition: Condition) -> tuple[Condition, ...]:
    """What must hold together."""
    return condition.parts if condition.kind == "and" else (condition,)


def negated(condition: Condition) -> Condition:
    kind = condition.kind
    if kind in ("true", "false"):
        return FALSE if kind == "true" else TRUE
    if kind == "ge":
        assert condition.poly is not None
        return at_least_zero(-condition.poly - 1)
    if kind in ("eq", "ne"):
        return Condition("ne" if kind == "eq" else "eq", condition.poly)
    if kind == "and":
        return either(*map(negated, condition.parts))
    if kind == "or":
        return both(*map(negated, condition.parts))
    if kind == "not":
        return condition.parts[0]
    return Condition("not", parts=(condition,))


def without_data(condition: Condition) -> Condition:
    """A condition of integers alone that holds wherever this one does."""
    if condition.kind in ("and", "or"):
        parts = [without_data(part) for part in condition.parts]
        return both(*parts) if condition.kind == "and" else either(*parts)
    return TRUE if condition.kind in ("data", "not") else condition


def substituted(condition: Condition, values: Mapping[str, Poly]) -> Condition:
    """The condition with symbols replaced in its bounds; values of data are left as they are."""
    if condition.parts:
        parts = [substituted(part, values) for part in condition.parts]
        return (
            both(*parts) if condition.kind == "and" else either(*parts) if condition.kind == "or" else
            replace(condition, parts=tuple(parts))
        )  # fmt: skip
    if condition.poly is None:
        return condition
    poly = condition.poly.substitute(values)
    if condition.kind == "ge":
        return at_least_zero(poly)
    equal = equals_zero(poly)
    return equal if condition.kind == "eq" else negated(equal)


def rebuilt(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """The tree with nodes replaced from the top: where `change` gives one, that is taken and not looked into."""
    changed = change(expr)
    if changed is not None:
        return changed
    args = tuple(rebuilt(part, change) for part in expr.args)
    value = _changed(expr.value, change) if isinstance(expr.value, Condition) else expr.value
    return expr if args == expr.args and value is expr.value else replace(expr, args=args, value=value)


def _changed(condition: Condition, change: Callable[[Expr], Expr | None]) -> Condition:
    parts = tuple(_changed(part, change) for part in condition.parts)
    value = None if condition.value is None else rebuilt(condition.value, change)
    same = value is condition.value and all(a is b for a, b in zip(parts, condition.parts, strict=True))
    return condition if same else replace(condition, parts=parts, value=value)
