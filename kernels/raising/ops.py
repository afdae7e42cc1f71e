"""Statements as operations: maps and reductions whose iterations may be taken in any order, and what is none of these.

`operations` distributes loops over statements where no dependence forbids it, and keeps the loops that must stay in
order. `kernels.raising.joining` joins what belongs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.raising.access import MOST_STATEMENTS, Accesses, Element, Normal
from kernels.raising.expressions import Condition, Expr, negated
from kernels.raising.memory import CELL, Statement
from kernels.raising.once import without_single
from kernels.raising.order import Order
from kernels.raising.polyhedra import isl
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import FLOATS
from kernels.raising.updates import choice, update

ACCUMULATED = "accumulated"
"""The op of the node in a finish that stands for the reduced value."""


@dataclass(frozen=True, eq=False)
class Operation:
    """target[subscripts] over `loops`: a map, or a reduction over `reduced` by `combine`.

    `combine`: "" for a map, add, mul, max, min, maximum and minimum (those of IEEE 754: NaN where there is one),
    argmax, argmin, or scan-add, scan-mul. `value` is the map's value or the reduction's term. `start`: what a reduction
    begins with, None for the target's old content. `finish`: what is made of the reduced value (a tree with one or
    more nodes `accumulated`), None for itself. `fixed`: loops around that stay in order. `domain` has `loops` as
    dimensions, the fixed ones too. `cover`, over `loops` but the reduced ones: where the target is written, which is
    more than the domain where some reductions have no terms. `reordered` says that iterations of a float reduction may
    be taken in another order: the IR's flags allow it, or the result does not depend on it.
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
    def line(self) -> int | None:
        """Where it begins in the source."""
        return self.lines[0] if self.lines else None

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
    normals = [without_single(n) for n in normals if not n.domain.is_empty()]
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
        return next((c for c in s.source.target.loops if c not in fixed and c not in s.once), None)

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
        neutral = {"add": 0, "mul": 1}.get(combine)
        if s.type not in FLOATS and term.op == "select" and term.value.is_affine:
            # what adds nothing in some iterations runs in the others only; a float zero has a sign
            for arm, condition in zip(term.args, (negated(term.value), term.value), strict=True):
                if arm.op == "const" and arm.value == neutral:
                    domain = domain.intersect(self._where(s.loops, condition))
                    term = next(other for other in term.args if other is not arm)
                    break
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
            if choice(same, greatest) != (found.combine, found.value, True):
                continue
            if any(e.base == place.target.base for e in elements(best.value)):
                continue
            chosen = self._operation(place, fixed, found.reduced, f"arg{found.combine}", index[0], found.domain)
            return replace(chosen, lines=lines_of(group))
        return None


def lines_of(statements: Sequence[Normal]) -> tuple[int, ...]:
    return tuple(sorted({s.line for s in statements if s.line is not None}))
