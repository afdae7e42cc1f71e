"""Statements as operations: maps and reductions whose iterations may be taken in any order, and what is none of these.

`operations` distributes loops over statements where no dependence forbids it, and keeps the loops that must stay in
order. `kernels.raising.joining` joins what belongs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.raising.access import MOST_STATEMENTS, Accesses, Normal
from kernels.raising.expressions import Condition
from kernels.raising.memory import Statement
from kernels.raising.once import without_single
from kernels.raising.ops import Operation, elements, lines_of
from kernels.raising.order import Order
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.recurrences import argument, scan
from kernels.raising.single import Single


def operations(accesses: Accesses, statements: Sequence[Statement]) -> list[Operation]:
    """The operations of a nest, in an order in which they may be run. Raises Abstained."""
    order = _ordered(accesses, statements)
    return _Distribution(Single(accesses, order), order).run(order.statements, ())


def in_order(accesses: Accesses, statements: Sequence[Statement], problem: Abstained) -> Operation:
    """A whole nest as loops that are run as they are. `problem` says why it is nothing better.

    Raises Abstained where not even that is known: what is read, and when.
    """
    order = _ordered(accesses, statements)
    steps = tuple(order.statements)
    if not steps or any(step.source.target.base in accesses.problems for step in steps):
        raise problem
    first = steps[0]
    free = order.independent(steps)
    return replace(
        Single(accesses, order).operation(first, (), (), "loops", first.value), steps=steps, free=free,
        lines=lines_of(steps), problem=problem,
    )  # fmt: skip


def _ordered(accesses: Accesses, statements: Sequence[Statement]) -> Order:
    """The statements with everything at the time of their stores. Raises Abstained."""
    if len(statements) > MOST_STATEMENTS:
        raise Abstained(Reason.LARGE, f"{len(statements)} statements in a nest", statements[0].target.line)
    normals = [accesses.normal(s) for s in statements]
    for n in normals:
        if n.source.conditional and not _compares_itself(n):
            raise Abstained(Reason.DATA_CONTROL, "a store that happens or not as data decide", n.line)
    order = Order(accesses, [without_single(n) for n in normals if not n.domain.is_empty()])
    order.check()
    return order


def _compares_itself(n: Normal) -> bool:
    """if (x > y[i]) y[i] = x: a store that depends on data is one update of its element."""
    leaves = n.value.value.leaves if isinstance(n.value.value, Condition) else []
    return any(n.target in elements(leaf.value) for leaf in leaves if leaf.value is not None)


@dataclass
class _Distribution:
    single: Single
    order: Order

    def run(self, statements: Sequence[Normal], fixed: tuple[str, ...]) -> list[Operation]:
        found: list[Operation] = []
        for group in self._groups(statements, fixed):
            if len(group) == 1:
                found.append(self._single(group[0], fixed))
                continue
            special = argument(self.single, group, fixed) or scan(self.single, group, fixed)
            if special:
                found += special
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

    def _single(self, s: Normal, fixed: tuple[str, ...]) -> Operation:
        try:
            return self.single.classified(s, fixed)
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
