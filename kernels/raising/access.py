"""Flat offsets as subscripts of arrays, tiles undone, and the order of reads and writes.

`normal` turns the statements of a trace into statements over subscripts, or says why not.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kernels.raising.expressions import TRUE, Access, Condition, Expr, at_least_zero, both, rebuilt
from kernels.raising.integers import size_of, substituted
from kernels.raising.ir import Operand
from kernels.raising.polyhedra import Polyhedra, isl
from kernels.raising.polynomials import ONE, ZERO, Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.trace import CELL, RESULT, Nest, Statement, Trace

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
    """

    target: Element
    type: str
    value: Expr
    loops: tuple[str, ...]
    domain: isl.Set
    tiles: Mapping[str, Poly]
    source: Statement
    original: Mapping[int, tuple[Poly, ...]] = field(repr=False)

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
        plain = _untiled(statement, ())
        original = {id(a): self._subscripts(a, plain) for a in accesses}
        return Normal(element, statement.target.type, value, untiled.loops, domain, untiled.tiles, statement, original)

    def _subscripts(self, access: Access, untiled: _Untiled) -> tuple[Poly, ...]:
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

    def _in_tiles(self, statement: Statement, untiled: _Untiled, domain: isl.Set) -> isl.Set:
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
        self._untiled: dict[int, _Untiled] = {s.place: _untiled(s, ()) for s in loose}
        for nest in nests:
            tiles = _tiles(nest.statements, self.trace.cells, self._stepped(nest))
            self._untiled |= {s.place: _untiled(s, tiles) for s in nest.statements}
        statements = [s for nest in nests for s in nest.statements] + list(loose)
        by_base: dict[str, list[tuple[Access, _Untiled]]] = {}
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
        target = statement.target
        array = self.arrays.get(target.base)
        if array is None:
            if target.base not in self.problems:
                self.problems[target.base] = Abstained(Reason.CALL, "a memset of what nobody else uses", target.line)
            return statement
        size = size_of(array.type)
        length, offset = statement.filled.divided(size), target.offset.divided(size)
        problem = Abstained(Reason.CALL, "a memset of what is no whole rows", target.line)
        if length is None or offset is None:
            self.problems[target.base] = problem
            return statement
        strides = [ONE]
        for extent in reversed(array.extents):
            strides.insert(0, strides[0] * extent)
        whole = next((k for k, stride in enumerate(strides) if not length.parted(stride)[1].terms), None)
        parts = []
        rest = offset
        for stride in strides:
            quotient, rest = rest.parted(stride)
            parts.append(quotient)
        if whole is None or any(part.terms for part in parts[whole + 1 :]):
            self.problems[target.base] = problem
            return statement
        counts = [length.parted(strides[whole])[0], *array.extents[whole:]]
        if counts[0] == ONE and len(counts) > 1:  # one row
            whole, counts = whole + 1, counts[1:]
        symbols = [f"f{statement.place}_{k}" for k in range(len(counts))]
        for symbol, count in zip(symbols, counts, strict=True):
            counter = Poly.of(symbol)
            self.polyhedra.bounds[symbol] = both(at_least_zero(counter), at_least_zero(count - counter - 1))
        parts = [*parts[:whole], parts[whole] + Poly.of(symbols[0]), *map(Poly.of, symbols[1:])]
        time = target.time + tuple(part for symbol in symbols for part in (symbol, 0))
        access = replace(target, type=array.type, time=time, loops=(*target.loops, *symbols))
        self._parted[id(access)] = tuple(parts)
        filled = replace(statement, target=access, value=Expr("const", array.type, value=0), filled=None)
        self._untiled[statement.place] = _untiled(filled, self._untiled[statement.place].applied)
        return filled

    def _stepped(self, nest: Nest) -> set[tuple[str, str, int]]:
        """Loops whose counter in the source begins at a multiple of the counter of a loop around: tiles."""
        found = set()
        integers = self.trace.integers
        for loop in self.trace.flow.loops:
            if nest.loop not in loop.around:
                continue
            for phi in self.trace.function.blocks[loop.header].instructions:
                value = integers.of(Operand(phi.type, phi.name)) if phi.opcode == "phi" else None
                if value is None or phi.type == "ptr":
                    continue
                for monomial, factor in value.terms:
                    if len(monomial) == 1 and monomial[0] in integers.counters and monomial[0] != loop.symbol:
                        found.add((monomial[0], loop.symbol, factor))
        return found

    def _dimensions(self, base: str, accesses: Sequence[tuple[Access, _Untiled]]) -> None:
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
            [offset.substitute(untiled.undone) for offset, untiled, _ in offsets], self.trace.integers.counters
        )
        best: tuple[int, list[isl.Set], tuple[Poly, ...], list[tuple[Poly, ...]]] | None = None
        for chain in _chains(strides):
            try:
                parted, needs = self._parts(chain, offsets)
            except Abstained:
                continue
            if best is None or len(needs) < best[0]:
                best = (len(needs), needs, chain, parted)
            if not needs:
                break
        if best is None:
            raise Abstained(Reason.SUBSCRIPT, "subscripts that leave their row", accesses[0][0].line)
        _, needs, chain, parted = best
        for holds in needs:
            self.polyhedra.assume_set(holds)
        extents = tuple(a.parted(b)[0] for a, b in itertools.pairwise(chain))
        self.arrays[base] = Array(base, kind, extents)
        for (_, _, access), parts in zip(offsets, parted, strict=True):
            self._parted[id(access)] = parts

    def _parts(
        self, chain: Sequence[Poly], offsets: Sequence[tuple[Poly, _Untiled, Access]]
    ) -> tuple[list[tuple[Poly, ...]], list[isl.Set]]:
        """The subscripts of every access by these strides, in counters of the source. Raises Abstained."""
        needs: list[isl.Set] = []
        parted = []
        for offset, untiled, access in offsets:
            parts, some = self._rows(chain, offset.substitute(untiled.undone), None, untiled.tiles, access)
            parted.append(parts)
            needs += some
        return parted, needs

    def _rows(
        self, chain: Sequence[Poly], rest: Poly, above: Poly | None, done: Mapping[str, Poly], access: Access
    ) -> tuple[tuple[Poly, ...], list[isl.Set]]:
        """The subscripts by the strides of the chain. A remainder that lies in the row beside is moved into its own.

        Raises Abstained where there are none that stay in their rows.
        """
        stride = chain[0]
        quotient, remainder = rest.parted(stride)
        best: tuple[tuple[Poly, ...], list[isl.Set]] | None = None
        problem: Abstained | None = None
        for shift in (0,) if stride == ONE else (0, -1, 1):
            try:
                moved = (quotient + shift).substitute(done)
                self.polyhedra.text(moved, frozenset(access.loops))  # raises where it is not affine
                need = None if above is None else self._in_row(moved, above.parted(stride)[0], access)
                needs = [] if need is None else [need]
                parts: tuple[Poly, ...] = (moved,)
                if len(chain) > 1:
                    below, more = self._rows(chain[1:], remainder - stride * shift, stride, done, access)
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

    def _in_row(self, value: Poly, extent: Poly, access: Access) -> isl.Set | None:
        """What parameters must be for a subscript to stay below its extent; None where it does in any case."""
        within = both(at_least_zero(value), at_least_zero(extent - value - 1))
        return self.polyhedra.needs(self._violations(within, access))

    def _violations(self, within: Condition, access: Access) -> isl.Set:
        whole = self.polyhedra.set_of(access.loops, access.when)
        inside = self.polyhedra.set_of(access.loops, both(access.when, within))
        return whole.subtract(inside)


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


@dataclass(frozen=True)
class _Tile:
    """The counters `outer` and `inner` occur only as factor * outer + inner: `new`."""

    outer: str
    inner: str
    factor: int
    new: str


@dataclass(frozen=True)
class _Untiled:
    """A statement's counters with tiles undone. `tiles`: each in counters of the source; `undone`: what to put in
    place of inner ones."""

    loops: tuple[str, ...]
    tiles: Mapping[str, Poly]
    undone: Mapping[str, Poly]
    applied: tuple[_Tile, ...]


def _untiled(statement: Statement, known: Sequence[_Tile]) -> _Untiled:
    loops = list(statement.target.loops)
    tiles = {symbol: Poly.of(symbol) for symbol in loops}
    undone: dict[str, Poly] = {}
    applied = []
    for tile in known:
        if tile.outer not in loops or tile.inner not in loops:
            continue
        poly = Poly.of(tile.new) - Poly.of(tile.outer) * tile.factor
        undone = {name: p.substitute({tile.inner: poly}) for name, p in undone.items()} | {tile.inner: poly}
        tiles[tile.new] = tiles.pop(tile.inner) + tiles.pop(tile.outer) * tile.factor
        loops[loops.index(tile.inner)] = tile.new
        loops.remove(tile.outer)
        applied.append(tile)
    return _Untiled(tuple(loops), {name: tiles[name] for name in loops}, undone, tuple(applied))


def _tiles(
    statements: Sequence[Statement], cells: Mapping[str, tuple[str, ...]], stepped: set[tuple[str, str, int]]
) -> list[_Tile]:
    """The tiles of a nest: the same for all its statements, so that what one writes is what another reads.

    `stepped`: an outer counter, an inner one and a factor, where the source's inner counter begins at their product.
    """
    plain = {(outer, inner): factor for outer, inner, factor in stepped}
    names = {symbol: symbol for pair in plain for symbol in pair}
    found: list[_Tile] = []
    counters = list(dict.fromkeys(symbol for s in statements for symbol in s.target.loops))
    polys = [(set(s.target.loops), _polys(s)) for s in statements]
    used = [cells[a.base] for s in statements for a in [s.target, *s.value.loads()] if a.base in cells]
    changed = True
    while changed:
        changed = False
        for outer, inner in itertools.permutations(counters, 2):
            if any(outer in loops and inner not in loops for loops in used):
                continue
            those = [p for loops, some in polys if outer in loops and inner in loops for p in some]
            factor = _tile_factor(those, outer, inner)
            if factor is None or plain.get((outer, names.get(inner, inner))) != factor:
                continue
            tile = _Tile(outer, inner, factor, "v" + inner.lstrip("cv"))
            found.append(tile)
            names[tile.new] = names.get(inner, inner)
            poly = Poly.of(tile.new) - Poly.of(outer) * factor
            polys = [
                (_merged(loops, tile), [p.substitute({inner: poly}) for p in some] if {outer, inner} <= loops else some)
                for loops, some in polys
            ]
            used = [tuple(_merged(set(loops), tile)) for loops in used]
            counters = [tile.new if c == inner else c for c in counters]
            if not any(outer in loops for loops, _ in polys):
                counters.remove(outer)
            changed = True
            break
    return found


def _merged(loops: set[str], tile: _Tile) -> set[str]:
    return (loops - {tile.outer, tile.inner}) | {tile.new} if {tile.outer, tile.inner} <= loops else loops


def _polys(statement: Statement) -> list[Poly]:
    polys = [a.offset for a in [statement.target, *statement.value.loads()] if a.offset.terms]
    for node in statement.value.walk():
        if node.op == "index":
            polys.append(node.value)
        if isinstance(node.value, Condition):
            polys.extend(leaf.poly for leaf in node.value.leaves if leaf.poly is not None)
    return polys


def _tile_factor(polys: Sequence[Poly], outer: str, inner: str) -> int | None:
    found: set[int | None] = set()
    for poly in polys:
        try:
            a, b = poly.coefficient(outer), poly.coefficient(inner)
        except ValueError:
            return None
        if not a.terms and not b.terms:
            continue
        if not a.terms or not b.terms:
            return None
        quotient, rest = a.parted(b)
        found.add(None if rest.terms else quotient.constant)
    factor = found.pop() if len(found) == 1 else None
    return factor if factor is not None and factor > 1 else None


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


# --- order ---------------------------------------------------------------------------------------------------------


@dataclass
class Order:
    """Whether values read early are still those at the time of the store, and which statement depends on which."""

    accesses: Accesses
    statements: Sequence[Normal]

    def __post_init__(self) -> None:
        self._depth = max((len(a.time) for s in self.statements for a in self._all(s)), default=1)

    def _all(self, s: Normal) -> list[Access]:
        return [s.source.target, *s.source.value.loads()]

    def check(self) -> None:
        """Raises Abstained where a store lies between a load and the store of what was computed from it."""
        for s in self.statements:
            for load in dict.fromkeys(s.source.value.loads()):
                for other in self.statements:
                    if other.target.base == load.base and self._between(load, other, s):
                        raise Abstained(
                            Reason.MEMORY_ORDER,
                            "a value is read, overwritten, and its old state used",
                            load.line or s.line,
                        )

    def _between(self, load: Access, other: Normal, s: Normal) -> bool:
        target = s.source.target
        if self._same_iteration(load, other, s):
            return False
        uses = self._relation(load, target, [f"{c}_ = {c}" for c in load.loops])
        written = self._same_place(
            load, other.original[id(other.source.target)], other.source.target, s.original[id(load)]
        )
        before = written.intersect(self._earlier(load, other.source.target))
        after = self._earlier(other.source.target, target)
        return not before.apply_range(after).intersect(uses).is_empty()

    def _same_iteration(self, load: Access, other: Normal, s: Normal) -> bool:
        """The plain case: one store, in the loops of the load, after it, and it is the user."""
        return other is s and load.loops == s.source.target.loops and load.time[:-1] == s.source.target.time[:-1]

    def depends(self, first: Normal, second: Normal, fixed: Sequence[str]) -> bool:
        """Whether an execution of `second` must come after one of `first`, in one iteration of the loops `fixed`."""
        return any(not relation.is_empty() for relation in self.relations(first, second, fixed))

    def relations(self, first: Normal, second: Normal, fixed: Sequence[str]) -> list[Any]:
        found = []
        for a in self._all(first):
            for b in self._all(second):
                if a.base != b.base or (a is not first.source.target and b is not second.source.target):
                    continue
                # at the time of the stores: `check` has moved the reads there
                relation = self._same_place_of(first, a, second, b)
                relation = relation.intersect(self._earlier(first.source.target, second.source.target))
                for symbol in fixed:
                    position = (first.source.target.loops.index(symbol), second.source.target.loops.index(symbol))
                    relation = relation.equate(isl.dim_type.in_, position[0], isl.dim_type.out, position[1])
                found.append(relation)
        return found

    def _same_place_of(self, first: Normal, a: Access, second: Normal, b: Access) -> isl.Map:
        here, there = first.source.target, second.source.target
        return self._places(here, first.original[id(a)], there, second.original[id(b)])

    def _same_place(self, load: Access, written: Sequence[Poly], store: Access, read: Sequence[Poly]) -> isl.Map:
        return self._places(load, read, store, written)

    def _places(self, a: Access, a_subscripts: Sequence[Poly], b: Access, b_subscripts: Sequence[Poly]) -> isl.Map:
        polyhedra = self.accesses.polyhedra
        renamed = {c: Poly.of(c + "_") for c in b.loops}
        counters = frozenset((*a.loops, *(c + "_" for c in b.loops)))
        equal = [
            f"{polyhedra.text(x, counters)} = {polyhedra.text(y.substitute(renamed), counters)}"
            for x, y in zip(a_subscripts, b_subscripts, strict=True)
        ]
        return self._relation(a, b, equal)

    def _relation(self, a: Access, b: Access, constraints: Sequence[str]) -> isl.Map:
        polyhedra = self.accesses.polyhedra
        before, after = polyhedra.set_of(a.loops, a.when), polyhedra.set_of(b.loops, b.when)
        inside, outside = ", ".join(a.loops), ", ".join(c + "_" for c in b.loops)
        text = f"{polyhedra.header()}{{ [{inside}] -> [{outside}] : {' and '.join(constraints) or '0 = 0'} }}"
        return isl.Map(text).intersect_domain(before).intersect_range(after)

    def _earlier(self, a: Access, b: Access) -> isl.Map:
        """Executions of a and later ones of b: at the first place where their times differ, a's is less."""
        ways: list[str] = []
        equal: list[str] = []
        for x, y in itertools.zip_longest(a.time, b.time):
            if x is None or y is None:
                break
            if isinstance(x, int) and isinstance(y, int):
                if x != y:
                    if x < y:
                        ways.append(" and ".join(equal) or "0 = 0")
                    break
                continue
            ways.append(" and ".join([*equal, f"{x} < {y}_"]))
            equal.append(f"{x} = {y}_")
        body = " or ".join(f"({way})" for way in ways) or "1 = 0"
        inside, outside = ", ".join(a.loops), ", ".join(c + "_" for c in b.loops)
        return isl.Map(f"{self.accesses.polyhedra.header()}{{ [{inside}] -> [{outside}] : {body} }}")


__all__ = ["MOST_STATEMENTS", "TRUE", "Accesses", "Array", "Element", "Normal", "Order"]
