"""Tiles undone: pairs of counters that only occur as factor * outer + inner."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernels.raising.expressions import Condition
from kernels.raising.memory import Statement
from kernels.raising.polynomials import Poly


@dataclass(frozen=True)
class Tile:
    """The counters `outer` and `inner` occur only as factor * outer + inner: `new`."""

    outer: str
    inner: str
    factor: int
    new: str


@dataclass(frozen=True)
class Untiled:
    """A statement's counters with tiles undone. `tiles`: each in counters of the source; `undone`: what to put in
    place of inner ones."""

    loops: tuple[str, ...]
    tiles: Mapping[str, Poly]
    undone: Mapping[str, Poly]
    applied: tuple[Tile, ...]


def untiled_of(statement: Statement, known: Sequence[Tile]) -> Untiled:
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
    return Untiled(tuple(loops), {name: tiles[name] for name in loops}, undone, tuple(applied))


def tiles_of(
    statements: Sequence[Statement], cells: Mapping[str, tuple[str, ...]], stepped: set[tuple[str, str, int]]
) -> list[Tile]:
    """The tiles of a nest: the same for all its statements, so that what one writes is what another reads.

    `stepped`: an outer counter, an inner one and a factor, where the source's inner counter begins at their product.
    """
    plain = {(outer, inner): factor for outer, inner, factor in stepped}
    names = {symbol: symbol for pair in plain for symbol in pair}
    found: list[Tile] = []
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
            tile = Tile(outer, inner, factor, "v" + inner.lstrip("cv"))
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


def _merged(loops: set[str], tile: Tile) -> set[str]:
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
