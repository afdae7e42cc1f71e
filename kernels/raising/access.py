"""Flat offsets as subscripts of arrays, with tiles undone.

`normal` turns the statements of a trace into statements over subscripts, or says why not.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernels.raising.expressions import (
    Access,
    Condition,
    Expr,
    at_least_zero,
    both,
    conjuncts,
    negated,
    rebuilt,
    substituted,
)
from kernels.raising.ir import Operand
from kernels.raising.memory import CELL, RESULT, Statement
from kernels.raising.polyhedra import Polyhedra, isl
from kernels.raising.polynomials import ONE, ZERO, Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import size_of
from kernels.raising.tiles import Untiled, tiles_of, untiled_of
from kernels.raising.trace import Nest, Trace

MOST_STATEMENTS = 40
_MOST_STRIDES = 7


@dataclass(frozen=True)
class Element:
    """One element of an array, by subscripts over counters."""

    base: str
    subscripts: tuple[Poly, ...]


@dataclass(frozen=True)
class Array:
    """`extents` are those of all dimensions but the first, whose extent only the accesses bound."""

    base: str
    type: str
    extents: tuple[Poly, ...]


@dataclass(frozen=True, eq=False)
class Normal:
    """A statement with everything at the time of its store. `loops` name the dimensions of `domain`.

    `value`'s nodes `read` (value: an Element) are over `loops`. `tiles` says what each is in counters of the source.
    `once`: loops that run once, which are not among `loops`.
    """

    target: Element
    type: str
    value: Expr
    loops: tuple[str, ...]
    domain: isl.Set
    tiles: Mapping[str, Poly]
    source: Statement
    original: Mapping[int, tuple[Poly, ...]] = field(repr=False)
    once: frozenset[str] = frozenset()

    @property
    def line(self) -> int | None:
        return self.source.target.line


@dataclass
class Accesses:
    """The arrays of a function, and proofs about its accesses."""

    trace: Trace
    polyhedra: Polyhedra
    arrays: dict[str, Array] = field(default_factory=dict)
    problems: dict[str, Abstained] = field(default_factory=dict)

    def normal(self, statement: Statement) -> Normal:
        """Raises Abstained."""
        accesses = [statement.target, *statement.value.loads()]
        for access in accesses:
            if access.base in self.problems:
                raise self.problems[access.base]
        untiled = self._untiled[statement.place]
        subscripts = {id(a): self._subscripts(a, untiled) for a in accesses}
        domain = self.polyhedra.set_of(statement.target.loops, statement.target.when)
        if untiled.applied:
            domain = self._in_tiles(statement, untiled, domain)
        element = Element(statement.target.base, subscripts[id(statement.target)])

        def change(node: Expr) -> Expr | None:
            if node.op == "load":
                return replace(node, op="read", value=Element(node.value.base, subscripts[id(node.value)]))
            if node.op == "index":
                return replace(node, value=node.value.substitute(untiled.undone))
            return None

        value = _bounds_undone(rebuilt(statement.value, change), untiled.undone)
        plain = untiled_of(statement, ())
        original = {id(a): self._subscripts(a, plain) for a in accesses}
        return Normal(element, statement.target.type, value, untiled.loops, domain, untiled.tiles, statement, original)

    def _subscripts(self, access: Access, untiled: Untiled) -> tuple[Poly, ...]:
        """In counters of the source, or in those without tiles."""
        if access.base == RESULT:
            return ()
        if access.base.startswith(CELL):
            loops = list(self.trace.cells[access.base])
            for tile in untiled.applied:
                if tile.outer in loops and tile.inner in loops:
                    loops[loops.index(tile.inner)] = tile.new
                    loops.remove(tile.outer)
            return tuple(Poly.of(symbol) for symbol in loops)
        return tuple(poly.substitute(untiled.undone) for poly in self._parted[id(access)])

    def _in_tiles(self, statement: Statement, untiled: Untiled, domain: isl.Set) -> isl.Set:
        """The iterations in the counters of the undone tiles; no two may become one."""
        counters = frozenset(statement.target.loops)
        forms = ", ".join(self.polyhedra.text(untiled.tiles[name], counters) for name in untiled.loops)
        text = f"{self.polyhedra.header()}{{ [{', '.join(statement.target.loops)}] -> [{forms}] }}"
        relation = isl.Map(text).intersect_domain(domain)
        if not relation.is_injective():
            raise Abstained(Reason.SUBSCRIPT, "tiles that overlap", statement.target.line)
        return relation.range().coalesce()

    # --- delinearization

    def delinearize(self, nests: Sequence[Nest], loose: Sequence[Statement]) -> None:
        """Find the dimensions of every array, from all its accesses."""
        self._parted: dict[int, tuple[Poly, ...]] = {}
        self._needs: dict[tuple[object, ...], isl.Set | Abstained | None] = {}
        self._untiled: dict[int, Untiled] = {s.place: untiled_of(s, ()) for s in loose}
        for nest in nests:
            tiles = tiles_of(nest.statements, self.trace.cells, self._stepped(nest))
            self._untiled |= {s.place: untiled_of(s, tiles) for s in nest.statements}
        statements = [s for nest in nests for s in nest.statements] + list(loose)
        by_base: dict[str, list[tuple[Access, Untiled]]] = {}
        for statement in statements:
            untiled = self._untiled[statement.place]
            for access in [statement.target, *statement.value.loads()]:
                if not access.base.startswith(CELL) and access.base != RESULT:
                    by_base.setdefault(access.base, []).append((access, untiled))
        for base, accesses in by_base.items():
            try:
                self._dimensions(base, [pair for pair in accesses if pair[0].type])
            except Abstained as problem:
                self.problems[base] = problem
        for nest in nests:
            nest.statements = [self._spread(s) for s in nest.statements]
        self.loose = [self._spread(s) for s in loose]

    def _spread(self, statement: Statement) -> Statement:
        """A statement that fills bytes, as one over the rows and columns of its array."""
        if statement.filled is None:
            return statement
        base, line = statement.target.base, statement.target.line
        array = self.arrays.get(base)
        if array is None:
            self.problems.setdefault(base, Abstained(Reason.CALL, "a memset of what nobody else uses", line))
            return statement
        rows = _filled_rows(statement.target.offset, statement.filled, array)
        if rows is None:
            self.problems[base] = Abstained(Reason.CALL, "a memset of what is no whole rows", line)
            return statement
        return self._over_rows(statement, array.type, *rows)

    def _over_rows(self, statement: Statement, kind: str, start: Sequence[Poly], counts: Sequence[Poly]) -> Statement:
        """One store of zero for each element of a box, whose last dimensions have the extents `counts`."""
        target = statement.target
        symbols = [f"f{statement.place}_{k}" for k in range(len(counts))]
        for symbol, count in zip(symbols, counts, strict=True):
            counter = Poly.of(symbol)
            self.polyhedra.bounds[symbol] = both(at_least_zero(counter), at_least_zero(count - counter - 1))
        access = replace(target, type=kind, time=target.time + tuple(p for symbol in symbols for p in (symbol, 0)))
        outer = len(start) - len(symbols)
        moved = [part + Poly.of(symbol) for part, symbol in zip(start[outer:], symbols, strict=True)]
        self._parted[id(access)] = (*start[:outer], *moved)
        filled = replace(statement, target=access, value=Expr("const", kind, value=0), filled=None)
        self._untiled[statement.place] = untiled_of(filled, self._untiled[statement.place].applied)
        return filled

    def _stepped(self, nest: Nest) -> set[tuple[str, str, int]]:
        """Loops whose counter in the source begins at a multiple of the counter of a loop around: tiles."""
        found = set()
        integers, counters = self.trace.integers, self.trace.definitions.counters
        for loop in self.trace.definitions.flow.loops:
            if nest.loop not in loop.around:
                continue
            for phi in self.trace.definitions.function.blocks[loop.header].instructions:
                value = integers.of(Operand(phi.type, phi.name)) if phi.opcode == "phi" else None
                if value is None or phi.type == "ptr":
                    continue
                for monomial, factor in value.terms:
                    if len(monomial) == 1 and monomial[0] in counters and monomial[0] != loop.symbol:
                        found.add((monomial[0], loop.symbol, factor))
        return found

    def _dimensions(self, base: str, accesses: Sequence[tuple[Access, Untiled]]) -> None:
        kinds = {access.type for access, _ in accesses}
        if not kinds:
            return
        if len(kinds) > 1:
            raise Abstained(Reason.TYPE, "an array that is accessed as two types", accesses[0][0].line)
        [kind] = kinds
        size = size_of(kind)
        offsets = []
        for access, untiled in accesses:
            offset = access.offset.divided(size)
            if offset is None:
                raise Abstained(Reason.TYPE, "an address between two elements", access.line)
            offsets.append((offset, untiled, access))
        strides = _strides(
            [offset.substitute(untiled.undone) for offset, untiled, _ in offsets], self.trace.definitions.counters
        )
        found = self._fewest_needs(strides, offsets)
        if found is None:
            raise Abstained(Reason.SUBSCRIPT, "subscripts that leave their row", accesses[0][0].line)
        chain, parted, needs = found
        for holds in needs:
            self.polyhedra.assume_set(holds)
        extents = tuple(a.parted(b)[0] for a, b in itertools.pairwise(chain))
        self.arrays[base] = Array(base, kind, extents)
        for (_, _, access), parts in zip(offsets, parted, strict=True):
            self._parted[id(access)] = parts

    def _fewest_needs(
        self, strides: Sequence[Poly], offsets: Sequence[tuple[Poly, Untiled, Access]]
    ) -> tuple[tuple[Poly, ...], list[tuple[Poly, ...]], list[isl.Set]] | None:
        """The strides under which least has to be assumed for subscripts to stay in their rows, with the subscripts."""
        best: tuple[tuple[Poly, ...], list[tuple[Poly, ...]], list[isl.Set]] | None = None
        for chain in _chains(strides):
            try:
                parted, needs = self._parts(chain, offsets, None if best is None else len(best[2]))
            except Abstained:
                continue
            if best is None or len(needs) < len(best[2]):
                best = chain, parted, needs
            if not needs:
                break
        return best

    def _parts(
        self, chain: Sequence[Poly], offsets: Sequence[tuple[Poly, Untiled, Access]], most: int | None
    ) -> tuple[list[tuple[Poly, ...]], list[isl.Set]]:
        """The subscripts of every access by these strides, in counters of the source. Raises Abstained where there are
        none, or where as much or more has to be assumed as `most`.
        """
        needs: list[isl.Set] = []
        parted = []
        for offset, untiled, access in offsets:
            below = None if most is None else most - len(needs)
            parts, some = self._rows(chain, offset.substitute(untiled.undone), None, untiled.tiles, access, below)
            parted.append(parts)
            needs += some
            if most is not None and len(needs) >= most:
                raise Abstained(Reason.SUBSCRIPT, "other strides ask for less")
        return parted, needs

    def _rows(
        self, chain: Sequence[Poly], rest: Poly, above: Poly | None, done: Mapping[str, Poly], access: Access,
        most: int | None,
    ) -> tuple[tuple[Poly, ...], list[isl.Set]]:  # fmt: skip
        """The subscripts by the strides of the chain. A remainder that lies in the row beside is moved into its own.

        Raises Abstained where none stay in their rows, or none with fewer assumptions than `most`.
        """
        stride = chain[0]
        quotient, remainder = rest.parted(stride)
        best: tuple[tuple[Poly, ...], list[isl.Set]] | None = None
        problem: Abstained | None = None
        for shift in (0,) if stride == ONE else (0, -1, 1):
            try:
                moved = (quotient + shift).substitute(done)
                self.polyhedra.text(moved, frozenset(access.loops))  # raises where it is not affine
                least = most if best is None else len(best[1])
                need = None if above is None else self._in_row(moved, above.parted(stride)[0], access, least)
                needs = [] if need is None else [need]
                parts: tuple[Poly, ...] = (moved,)
                if len(chain) > 1:
                    fewer = None if least is None else least - len(needs)
                    below, more = self._rows(chain[1:], remainder - stride * shift, stride, done, access, fewer)
                    parts, needs = parts + below, needs + more
            except Abstained as found:
                problem = problem or found
                continue
            if best is None or len(needs) < len(best[1]):
                best = parts, needs
            if not needs:
                break
        if best is None:
            assert problem is not None
            raise problem
        return best

    def _in_row(self, value: Poly, extent: Poly, access: Access, most: int | None) -> isl.Set | None:
        """What parameters must be for a subscript to stay below its extent; None where it does in any case. Raises
        Abstained where it never does, or where `most` allows for no condition."""
        within = both(at_least_zero(value), at_least_zero(extent - value - 1))
        key = (access.loops, access.when, within, len(self.polyhedra.assumed_sets), len(self.polyhedra.assumed))
        if key not in self._needs:
            violations = self._violations(within, access)
            if most is not None and most <= 1 and not violations.is_empty():
                raise Abstained(Reason.SUBSCRIPT, "other strides ask for less")  # cheaper than what exactly is asked
            try:
                self._needs[key] = self.polyhedra.needs(violations)
            except Abstained as problem:
                self._needs[key] = problem
        known = self._needs[key]
        if isinstance(known, Abstained):
            raise known
        return known

    def _violations(self, within: Condition, access: Access) -> isl.Set:
        whole = self.polyhedra.set_of(access.loops, access.when)
        parts = [self.polyhedra.constraint(negated(part), frozenset(access.loops)) for part in conjuncts(within)]
        text = f"{{ [{', '.join(access.loops)}] : {' or '.join(parts)} }}"
        return whole.intersect(isl.Set(self.polyhedra.header() + text))


def _filled_rows(offset: Poly, length: Poly, array: Array) -> tuple[list[Poly], list[Poly]] | None:
    """Bytes as a box of an array: the subscripts where it starts, and the extents of its last dimensions.

    None where they are no whole rows, planes and so on.
    """
    size = size_of(array.type)
    count, rest = length.divided(size), offset.divided(size)
    if count is None or rest is None:
        return None
    strides = [ONE]
    for extent in reversed(array.extents):
        strides.insert(0, strides[0] * extent)
    whole = next((k for k, stride in enumerate(strides) if not count.parted(stride)[1].terms), None)
    start = []
    for stride in strides:
        part, rest = rest.parted(stride)
        start.append(part)
    if whole is None or any(part.terms for part in start[whole + 1 :]):
        return None
    counts = [count.parted(strides[whole])[0], *array.extents[whole:]]
    return start, counts[1:] if counts[0] == ONE and len(counts) > 1 else counts  # without the dimension of one row


def _bounds_undone(value: Expr, undone: Mapping[str, Poly]) -> Expr:
    """Conditions of integers inside a value, in the new counters."""
    if not undone:
        return value

    def change(node: Expr) -> Expr | None:
        if node.op == "select" and isinstance(node.value, Condition) and node.value.is_affine:
            args = tuple(_bounds_undone(arg, undone) for arg in node.args)
            return replace(node, args=args, value=substituted(node.value, undone))
        return None

    return rebuilt(value, change)


def _strides(offsets: Sequence[Poly], counters: set[str]) -> list[Poly]:
    found = {ONE: None}
    for offset in offsets:
        for symbol in sorted(s for s in offset.symbols if s in counters or s.startswith("v")):
            try:
                factor = offset.coefficient(symbol)
            except ValueError as error:
                raise Abstained(Reason.SUBSCRIPT, "a product of loop counters") from error
            if any(s in counters or s.startswith("v") for s in factor.symbols):
                raise Abstained(Reason.SUBSCRIPT, "a product of loop counters")
            lead = max(factor.terms, key=lambda term: (len(term[0]), term[0]))[1]
            if -factor in found or all(c < 0 for _, c in factor.terms):
                factor = -factor
            found[factor] = None
            divisor = abs(lead)
            if divisor > 1 and factor.symbols and (plain := factor.divided(divisor)) is not None:
                found[plain] = None
    return sorted(found, key=_rank, reverse=True)[:_MOST_STRIDES]


def _rank(stride: Poly) -> tuple[int, int, str]:
    lead, factor = max(stride.terms, key=lambda term: (len(term[0]), term[0]))
    return len(lead), factor, stride.text()


def _chains(strides: Sequence[Poly]) -> list[tuple[Poly, ...]]:
    """Sequences of strides of which each is a multiple of the next and the last is 1, the longest first."""
    above = [s for s in strides if s != ONE]
    found = []
    for count in range(len(above), -1, -1):
        for some in itertools.combinations(above, count):
            chain = (*some, ONE)
            if all(
                not a.parted(b)[1].terms and a.parted(b)[0] not in (ONE, ZERO) for a, b in itertools.pairwise(chain)
            ):
                found.append(chain)
    return found
