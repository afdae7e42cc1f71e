"""Statements as operations: maps and reductions whose iterations may be taken in any order, and what is none of these.

`operations` distributes loops over statements where no dependence forbids it, keeps the loops that must stay in order,
and joins what belongs together: the start of a sum, its terms, and what is done with it at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kernels.raising.access import MOST_STATEMENTS, Accesses, Element, Normal, Order
from kernels.raising.expressions import Condition, Expr, negated, rebuilt
from kernels.raising.integers import substituted
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.trace import CELL, Statement

ACCUMULATED = "accumulated"
"""The op of the node in a finish that stands for the reduced value."""


@dataclass(frozen=True, eq=False)
class Operation:
    """target[subscripts] over `loops`: a map, or a reduction over `reduced` by `combine`.

    `combine`: "" for a map, add, mul, max, min, argmax, argmin, or scan-add, scan-mul. `value` is the map's value or
    the reduction's term. `start`: what a reduction begins with, None for the target's old content. `finish`: what is
    made of the reduced value (a tree with one or more nodes `accumulated`), None for itself. `fixed`: loops around
    that stay in order. `domain` has `loops` as dimensions, the fixed ones too. `cover`, over `loops` but the reduced
    ones: where the target is written, which is more than the domain where some reductions have no terms.
    `reordered` says that iterations of a float reduction may be taken in another order: the IR's flags allow it, or
    the result does not depend on it.
    """

    target: Element
    type: str
    loops: tuple[str, ...]
    reduced: tuple[str, ...]
    domain: isl.Set
    combine: str
    value: Expr
    start: Expr | None
    finish: Expr | None
    fixed: tuple[str, ...]
    lines: tuple[int, ...]
    reordered: bool
    place: int
    with_index: Operation | None = None
    start_domain: isl.Set | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """All loops but the reduced ones."""
        return tuple(c for c in self.loops if c not in self.reduced)

    @property
    def cover(self) -> isl.Set:
        return self.start_domain if self.start_domain is not None else _without(self.domain, self.loops, self.reduced)

    @property
    def parallel(self) -> tuple[str, ...]:
        return tuple(c for c in self.loops if c not in self.reduced and c not in self.fixed)

    @property
    def reads(self) -> list[Element]:
        parts = [self.value, *([self.start] if self.start else []), *([self.finish] if self.finish else [])]
        return list(dict.fromkeys(e for part in parts for e in elements(part)))


def _without(domain: isl.Set, loops: Sequence[str], gone: Sequence[str]) -> isl.Set:
    for position in reversed(range(len(loops))):
        if loops[position] in gone:
            domain = domain.project_out(isl.dim_type.set, position, 1)
    return domain


def elements(value: Expr) -> list[Element]:
    return [node.value for node in value.walk() if node.op == "read"]


def operations(accesses: Accesses, statements: Sequence[Statement]) -> list[Operation]:
    """The operations of a nest, in an order in which they may be run. Raises Abstained."""
    if len(statements) > MOST_STATEMENTS:
        raise Abstained(Reason.LARGE, f"{len(statements)} statements in a nest", statements[0].target.line)
    normals = [accesses.normal(s) for s in statements]
    for n in normals:
        if n.source.conditional and not _compares_itself(n):
            raise Abstained(Reason.DATA_CONTROL, "a store that happens or not as data decide", n.line)
    normals = [n for n in normals if not n.domain.is_empty()]
    order = Order(accesses, normals)
    order.check()
    return _Distribution(accesses, order).run(normals, ())


def _compares_itself(n: Normal) -> bool:
    """if (x > y[i]) y[i] = x: a store that depends on data is one update of its element."""
    leaves = n.value.value.leaves if isinstance(n.value.value, Condition) else []
    return any(n.target in elements(leaf.value) for leaf in leaves if leaf.value is not None)


@dataclass
class _Distribution:
    accesses: Accesses
    order: Order

    def run(self, statements: Sequence[Normal], fixed: tuple[str, ...]) -> list[Operation]:
        found: list[Operation] = []
        for group in self._groups(statements, fixed):
            if len(group) == 1:
                found.append(self._single(group[0], fixed))
                continue
            special = self._argument(group, fixed) or self._scan(group, fixed)
            if special is not None:
                found.append(special)
                continue
            outer = {self._next(s, fixed) for s in group}
            if len(outer) != 1 or None in outer:
                raise Abstained(Reason.CARRIED, "statements that depend on each other", group[0].line)
            [symbol] = outer
            assert symbol is not None
            if any(symbol not in s.loops for s in group):
                raise Abstained(Reason.CARRIED, "tiles of iterations that depend on each other", group[0].line)
            found += self.run(group, (*fixed, symbol))
        return found

    def _next(self, s: Normal, fixed: Sequence[str]) -> str | None:
        """The outermost loop that is not fixed yet."""
        return next((c for c in s.source.target.loops if c not in fixed), None)

    def _groups(self, statements: Sequence[Normal], fixed: Sequence[str]) -> list[list[Normal]]:
        """Statements that depend on each other in both directions, in an order that keeps all dependences."""
        count = len(statements)
        after = [
            {j for j in range(count) if j != i and self.order.depends(statements[i], statements[j], fixed)}
            for i in range(count)
        ]
        reach = [set(a) for a in after]
        for _ in range(count):
            for i in range(count):
                for j in list(reach[i]):
                    reach[i] |= reach[j]
        groups: list[list[int]] = []
        for i in range(count):
            home = next((g for g in groups if i in reach[g[0]] and g[0] in reach[i]), None)
            if home is None:
                groups.append([i])
            else:
                home.append(i)
        done: list[list[Normal]] = []
        left = list(groups)
        while left:
            free = next(g for g in left if not any(j in reach[o[0]] for o in left if o is not g for j in g))
            left.remove(free)
            done.append([statements[i] for i in free])
        return done

    # --- one statement

    def _single(self, s: Normal, fixed: tuple[str, ...]) -> Operation:
        try:
            return self._classified(s, fixed)
        except Abstained as problem:
            if problem.reason is not Reason.CARRIED:
                raise
            symbol = self._next(s, fixed)
            rest = [c for c in s.loops if c not in fixed and c != symbol]
            if symbol is None or symbol not in s.loops or not rest:
                raise
            try:
                return self._single(s, (*fixed, symbol))
            except Abstained:
                raise problem from None

    def _classified(self, s: Normal, fixed: tuple[str, ...]) -> Operation:
        own = [e for e in elements(s.value) if e.base == s.target.base]
        if s.loops and all(c in fixed for c in s.loops):
            raise Abstained(Reason.CARRIED, "iterations that depend on each other", s.line)
        injective = self._is_injective(s, fixed)
        if injective and not self.order.depends(s, s, fixed):
            return self._operation(s, fixed, (), "", s.value)
        if not own:
            raise Abstained(Reason.OVERWRITE, "an element that is written again and again", s.line)
        if any(e != s.target for e in own):
            scan = self._recurrence(s, fixed)
            if scan is not None:
                return scan
            raise Abstained(Reason.CARRIED, "an array that is read and written at different places", s.line)
        reduced = tuple(c for c in s.loops if c not in fixed and not any(c in p.symbols for p in s.target.subscripts))
        if not reduced or not self._is_injective(s, tuple(c for c in s.loops if c in fixed or c in reduced), reduced):
            raise Abstained(Reason.CARRIED, "iterations that write the same element", s.line)
        return self._reduction(s, fixed, reduced)

    def _is_injective(self, s: Normal, fixed: Sequence[str], free: Sequence[str] = ()) -> bool:
        """Whether iterations that differ, but not in `fixed`, write different elements. Those that differ in `free`
        alone may write the same."""
        polyhedra = self.accesses.polyhedra
        counters = frozenset(s.loops)
        kept = [c for c in fixed if c not in free]
        forms = [polyhedra.text(p, counters) for p in s.target.subscripts] + kept
        text = f"{polyhedra.header()}{{ [{', '.join(s.loops)}] -> [{', '.join(forms)}] }}"
        write = isl.Map(text).intersect_domain(s.domain)
        if not free:
            return bool(write.is_injective())
        pairs = write.apply_range(write.reverse())
        equal = [c for c in s.loops if c not in free]
        outside = ", ".join(c + "_" for c in s.loops)
        body = " and ".join(f"{c} = {c}_" for c in equal) or "0 = 0"
        same = isl.Map(f"{polyhedra.header()}{{ [{', '.join(s.loops)}] -> [{outside}] : {body} }}")
        return bool(pairs.is_subset(same))

    def _operation(
        self, s: Normal, fixed: tuple[str, ...], reduced: tuple[str, ...], combine: str, value: Expr,
        domain: isl.Set | None = None, reordered: bool = True,
    ) -> Operation:  # fmt: skip
        lines = () if s.line is None else (s.line,)
        return Operation(
            s.target, s.type, s.loops, reduced, s.domain if domain is None else domain, combine, value, None, None,
            tuple(c for c in fixed if c in s.loops), lines, reordered, s.source.place,
        )  # fmt: skip

    def _reduction(self, s: Normal, fixed: tuple[str, ...], reduced: tuple[str, ...]) -> Operation:
        value, domain = s.value, s.domain
        own = Expr("read", s.type, value=s.target)
        while value.op == "select" and isinstance(value.value, Condition) and value.value.is_affine:
            # a guard: where it does not hold, the element stays as it is
            kept, condition = (
                (value.args[0], value.value) if value.args[1] == own else (value.args[1], negated(value.value))
            )
            if own not in value.args:
                break
            domain = domain.intersect(self._where(s.loops, condition))
            value = kept
        found = update(value, own)
        if found is None:
            raise Abstained(Reason.CARRIED, "an element that is updated by what is no reduction", s.line)
        combine, term, exact = found
        if any(e.base == s.target.base for e in elements(term)):
            raise Abstained(Reason.CARRIED, "a term that reads what is accumulated", s.line)
        if combine == "nan":
            raise Abstained(Reason.NAN, "a maximum whose result depends on the order if there are NaNs", s.line)
        return self._operation(s, fixed, reduced, combine, term, domain, reordered=exact)

    def _where(self, loops: Sequence[str], condition: Condition) -> isl.Set:
        polyhedra = self.accesses.polyhedra
        text = polyhedra.constraint(condition, frozenset(loops))
        return isl.Set(f"{polyhedra.header()}{{ [{', '.join(loops)}] : {text} }}")

    # --- recurrences

    def _recurrence(self, s: Normal, fixed: tuple[str, ...]) -> Operation | None:
        """y[i] = y[i - 1] op x[i]."""
        own = list(dict.fromkeys(e for e in elements(s.value) if e.base == s.target.base))
        if len(own) != 1:
            return None
        shifts = [a - b for a, b in zip(s.target.subscripts, own[0].subscripts, strict=True)]
        moved = [i for i, shift in enumerate(shifts) if shift.terms]
        if len(moved) != 1 or shifts[moved[0]].constant != 1:
            return None
        axis = s.target.subscripts[moved[0]]
        symbols = [c for c in s.loops if c in axis.symbols]
        found = update(s.value, Expr("read", s.type, value=own[0]))
        if (
            found is None
            or len(symbols) != 1
            or found[0] not in ("add", "mul")
            or axis.coefficient(symbols[0]).constant != 1
        ):
            return None
        if any(e.base == s.target.base for e in elements(found[1])):
            return None
        if any(symbols[0] in p.symbols for i, p in enumerate(s.target.subscripts) if i != moved[0]):
            return None
        if not self._is_injective(s, fixed):
            return None
        return self._operation(s, fixed, tuple(symbols), f"scan-{found[0]}", found[1], reordered=found[2])

    def _scan(self, group: Sequence[Normal], fixed: tuple[str, ...]) -> Operation | None:
        """t = t op x[i]; y[i] = t."""
        if len(group) != 2:
            return None
        for running, kept in (group, group[::-1]):
            if not running.target.base.startswith(CELL) or kept.target.base.startswith(CELL):
                continue
            try:
                total = self._classified(running, fixed)
            except Abstained:
                continue
            if total.combine not in ("add", "mul") or len(total.reduced) != 1 or running.loops != kept.loops:
                continue
            own = Expr("read", running.type, value=running.target)
            inclusive, exclusive = kept.value == running.value, kept.value == own
            if not (inclusive or exclusive) or not self._is_injective(kept, fixed):
                continue
            if not running.domain.is_equal(kept.domain) or kept.target.base in {e.base for e in elements(total.value)}:
                continue
            return replace(
                total, target=kept.target, combine=f"scan-{total.combine}", lines=lines_of(group),
                finish=None if inclusive else Expr("exclusive", kept.type),
            )  # fmt: skip
        return None

    def _argument(self, group: Sequence[Normal], fixed: tuple[str, ...]) -> Operation | None:
        """m = max(m, x[i]) with the place of the greatest: one condition chooses both."""
        if len(group) != 2:
            return None
        for best, place in (group, group[::-1]):
            if place.value.op != "select" or not isinstance(place.value.value, Condition):
                continue
            try:
                found = self._classified(best, fixed)
            except Abstained:
                continue
            own = Expr("read", place.type, value=place.target)
            index = [a for a in place.value.args if a != own]
            if found.combine not in ("max", "min") or len(index) != 1 or index[0].op not in ("index", "const"):
                continue
            greatest = Expr("read", best.type, value=best.target)
            same = replace(
                place.value, type=best.type, args=tuple(greatest if a == own else found.value for a in place.value.args)
            )
            if _chosen(same, greatest) != (found.combine, found.value, True):
                continue
            if any(e.base == place.target.base for e in elements(best.value)):
                continue
            second = self._operation(place, fixed, found.reduced, f"arg{found.combine}", index[0], found.domain)
            return replace(second, with_index=found, lines=lines_of(group))
        return None


def lines_of(statements: Sequence[Normal]) -> tuple[int, ...]:
    return tuple(sorted({s.line for s in statements if s.line is not None}))


# --- how an element is updated ---------------------------------------------------------------------------------------

_SUMS = {"fadd": "add", "add": "add", "fmul": "mul", "mul": "mul"}
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
    if value.op == "call" and value.value in ("maxnum", "minnum", "smax", "smin"):
        other = [a for a in value.args if a != own]
        return (
            (value.value[-6:-3] if value.value.endswith("num") else value.value[1:], other[0], True)
            if (len(other) == 1)
            else None
        )
    if value.op == "select" and isinstance(value.value, Condition):
        return _chosen(value, own)
    return None


def _chosen(value: Expr, own: Expr) -> tuple[str, Expr, bool] | None:
    condition, (a, b) = value.value, value.args
    leaf = condition
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
    if set(compared.args) == {own, other}:
        if compared.args[0] == own:  # own < x means x > own
            predicate = predicate[0] + _SWAPPED.get(predicate[1:], predicate[1:])
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


# --- what belongs together ---------------------------------------------------------------------------------------


def joined(found: Sequence[Operation]) -> list[Operation]:
    """Starts and finishes joined to their reductions; cells that nobody reads dropped."""
    operations_left = list(found)
    changed = True
    while changed:
        changed = False
        for step in (_with_start, _with_finish, _without_copies):
            after = step(operations_left)
            if after is not None:
                operations_left, changed = after, True
                break
    read = {e.base for op in operations_left for e in op.reads}
    return [op for op in operations_left if not op.target.base.startswith(CELL) or op.target.base in read]


def _write_map(op: Operation) -> isl.Map:
    counters = frozenset(op.kept)
    forms = [_text(poly, counters) for poly in op.target.subscripts]
    fixed = [c for c in op.kept if c in op.fixed]
    return isl.Map(f"{{ [{', '.join(op.kept)}] -> [{', '.join([*forms, *fixed])}] }}")


def _writes(op: Operation) -> isl.Set:
    return op.cover.apply(_write_map(op))


def _text(poly: Poly, counters: frozenset[str]) -> str:
    parts = []
    for monomial, factor in poly.terms:
        if monomial and (len(monomial) > 1 or monomial[0] not in counters):
            raise Abstained(Reason.SUBSCRIPT, "a subscript by a parameter")
        parts.append(f"{'-' if factor < 0 else '+'} {abs(factor)}{'*' + monomial[0] if monomial else ''}")
    return " ".join(parts).removeprefix("+ ") or "0"


def _inverse(op: Operation, target: Element) -> dict[str, Poly] | None:
    """The counters of a map in terms of the subscripts of another element of the same array."""
    values: dict[str, Poly] = {}
    for mine, theirs in zip(op.target.subscripts, target.subscripts, strict=True):
        symbols = [s for s in mine.symbols if s in op.loops]
        if not symbols:
            if mine != theirs:
                return None
            continue
        if len(symbols) != 1 or mine.coefficient(symbols[0]).constant not in (1, -1):
            return None
        sign = mine.coefficient(symbols[0])
        value = (theirs - mine.without(symbols)) * sign
        if values.setdefault(symbols[0], value) != value:
            return None
    return values if all(c in values for c in op.loops if c not in op.fixed) else None


def substituted_value(value: Expr, values: dict[str, Poly]) -> Expr:
    """A value with its counters replaced."""

    def change(node: Expr) -> Expr | None:
        if node.op == "read":
            element = node.value
            return replace(node, value=Element(element.base, tuple(p.substitute(values) for p in element.subscripts)))
        if node.op == "index":
            return replace(node, value=node.value.substitute(values))
        if isinstance(node.value, Condition) and any(leaf.poly is not None for leaf in node.value.leaves):
            args = tuple(substituted_value(arg, values) for arg in node.args)
            return replace(node, args=args, value=_condition(node.value, values, substituted))
        return None

    return rebuilt(value, change)


def _condition(
    condition: Condition, values: dict[str, Poly], change: Callable[[Condition, dict[str, Poly]], Condition]
) -> Condition:
    if condition.parts:
        return replace(condition, parts=tuple(_condition(part, values, change) for part in condition.parts))
    if condition.value is not None:
        return replace(condition, value=substituted_value(condition.value, values))
    return change(condition, values)


def _untouched(between: Sequence[Operation], bases: set[str]) -> bool:
    return not any(op.target.base in bases for op in between)


def _with_start(ops: list[Operation]) -> list[Operation] | None:
    """A map that writes what a reduction then adds to, all of it and nothing else, is its start."""
    for j, op in enumerate(ops):
        if not op.combine or op.combine.startswith(("arg", "scan")) or op.start is not None or op.finish is not None:
            continue
        for i in range(j - 1, -1, -1):
            first = ops[i]
            base = op.target.base
            if first.target.base == base:
                cover = _cover_by(first, op)
                if first.combine or first.fixed != op.fixed or cover is None:
                    break
                values = _inverse(first, op.target)
                between = ops[i + 1 : j]
                read = {e.base for e in elements(first.value)}
                if values is None or not _untouched(between, read) or (base in read and between):
                    break
                start = substituted_value(first.value, values)
                start_self = start == Expr("read", op.type, value=op.target)
                lines = tuple(sorted({*op.lines, *first.lines}))
                merged = replace(op, start=None if start_self else start, lines=lines, start_domain=cover)
                return [*ops[:i], *ops[i + 1 : j], merged, *ops[j + 1 :]]
            if any(e.base == base for e in first.reads):
                break
    return None


def _cover_by(start: Operation, op: Operation) -> isl.Set | None:
    """Where the op writes with what a start writes; None where that is not all of it, or more."""
    try:
        written, relation = _writes(start), _write_map(op)
    except Abstained:
        return None
    if not _writes(op).is_subset(written):
        return None
    cover = written.apply(relation.reverse())
    return cover if cover.apply(relation).is_equal(written) else None


def _same_writes(a: Operation, b: Operation) -> bool:
    try:
        return bool(_writes(a).is_equal(_writes(b)))
    except Abstained:
        return False


def _with_finish(ops: list[Operation]) -> list[Operation] | None:
    """A map of a cell that a reduction has left, element by element, is the reduction's finish."""
    for i, op in enumerate(ops):
        base = op.target.base
        if not op.combine or op.combine.startswith(("arg", "scan")) or not base.startswith(CELL):
            continue
        users = [(j, o) for j, o in enumerate(ops) if j != i and any(e.base == base for e in o.reads)]
        writers = [o for o in ops if o is not op and o.target.base == base]
        if len(users) != 1 or writers:
            continue
        j, user = users[0]
        if j < i or user.combine or user.fixed != op.fixed:
            continue
        read = {e for e in elements(user.value) if e.base == base}
        if len(read) != 1:
            continue
        values = _inverse_of_read(op, next(iter(read)), user)
        between = ops[i + 1 : j]
        mine = {e.base for e in op.reads}
        if values is None or any(o.target.base in mine for o in between) or not _covers(op, user, next(iter(read))):
            continue
        if user.target.base != base and user.target.base in {e.base for e in elements(op.value)}:
            continue

        def change(node: Expr) -> Expr | None:
            return replace(node, op=ACCUMULATED, value=None) if node.op == "read" and node.value in read else None  # noqa: B023

        finish = substituted_value(rebuilt(user.value, change), values)
        target = Element(user.target.base, tuple(p.substitute(values) for p in user.target.subscripts))
        finish_or_none = None if finish.op == ACCUMULATED else finish
        start = op.start
        if start == Expr("read", user.type, value=target) and finish_or_none is None:
            start = None
        lines = tuple(sorted({*op.lines, *user.lines}))
        merged = replace(op, target=target, finish=finish_or_none, start=start, lines=lines, place=user.place)
        return [*ops[:i], *between, merged, *ops[j + 1 :]]
    return None


def _inverse_of_read(op: Operation, read: Element, user: Operation) -> dict[str, Poly] | None:
    """The user's counters in terms of the reduction's parallel ones; the cell is read one to one."""
    values: dict[str, Poly] = {}
    for mine, theirs in zip(op.target.subscripts, read.subscripts, strict=True):
        symbols = [s for s in theirs.symbols if s in user.loops]
        if len(symbols) != 1 or theirs != Poly.of(symbols[0]):
            if mine == theirs and not symbols:
                continue
            return None
        if values.setdefault(symbols[0], mine) != mine:
            return None
    return values if all(c in values for c in user.loops if c not in user.fixed) else None


def _covers(op: Operation, user: Operation, read: Element) -> bool:
    """Whether the user reads each element that the reduction leaves, and no other."""
    probe = replace(user, target=read)
    return _same_writes(op, probe)


def _without_copies(ops: list[Operation]) -> list[Operation] | None:
    """A cell that is a map's value and read by one later map, element by element, is put in its place."""
    for i, op in enumerate(ops):
        base = op.target.base
        if op.combine or not base.startswith(CELL) or [o for o in ops if o is not op and o.target.base == base]:
            continue
        users = [(j, o) for j, o in enumerate(ops) if j != i and any(e.base == base for e in o.reads)]
        if len(users) != 1 or users[0][0] < i:
            continue
        j, user = users[0]
        mine = {e.base for e in elements(op.value)}
        if not _untouched(ops[i + 1 : j], mine) or (user.combine and user.target.base in mine):
            continue
        reads = {e for e in user.reads if e.base == base}
        solved = {e: _inverse(op, e) for e in reads}
        if any(v is None for v in solved.values()) or op.fixed != user.fixed:
            continue
        if not all(_writes(replace(user, target=e)).is_subset(_writes(op)) for e in reads):
            continue

        def change(node: Expr) -> Expr | None:
            if node.op == "read" and node.value in solved:  # noqa: B023
                return substituted_value(op.value, solved[node.value] or {})  # noqa: B023
            return None

        merged = replace(
            user, value=rebuilt(user.value, change), start=None if user.start is None else rebuilt(user.start, change),
            finish=None if user.finish is None else rebuilt(user.finish, change),
        )  # fmt: skip
        return [*ops[:i], *ops[i + 1 : j], merged, *ops[j + 1 :]]
    return None


__all__ = ["ACCUMULATED", "Operation", "elements", "joined", "operations", "summands", "update"]
