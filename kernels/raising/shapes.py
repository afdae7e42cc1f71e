"""The shapes of arrays at given sizes: what the accesses reach."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kernels.raising.access import Element
from kernels.raising.memory import CELL, RESULT
from kernels.raising.ops import Operation, elements
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.sizes import Sized

MOST_BYTES = 1 << 34


class Shapes:
    """`of`: the shape by array. `reached`: how many elements there are from its first to the last one accessed.

    Raises Abstained for a subscript below the start of an array, and for arrays that are too large.
    """

    def __init__(self, sized: Sized, ops: Sequence[Operation]) -> None:
        self.of: dict[str, tuple[int, ...]] = {}
        self.reached: dict[str, int] = {}
        self._sized, self._accesses = sized, sized.accesses
        rows: dict[str, int] = {}
        for op in ops:
            self._measure(op, rows)
        for base, count in rows.items():
            extents = () if base.startswith((CELL, RESULT)) else self._accesses.arrays[base].extents
            self.of[base] = (count, *map(sized.number, extents))
            if math.prod(self.of[base]) * 8 > MOST_BYTES:
                raise Abstained(Reason.SIZES, f"an array of the shape {list(self.of[base])}")
        for op in ops:
            for target, loops, domain in self._writes(op):
                if target.base.startswith(CELL):
                    self._cell(target, loops, domain)

    def _writes(self, op: Operation) -> list[tuple[Element, Sequence[str], isl.Set]]:
        """The elements that an operation writes, by which loops, where."""
        if op.steps:
            return [(step.target, step.loops, self._sized.at(step.domain)) for step in op.steps]
        return [(op.target, op.kept, self._sized.at(op.cover))]

    def is_whole(self, op: Operation, base: str = "") -> bool:
        """Whether every element of an array (the target) is written."""
        base = base or op.target.base
        shape = self.of[base]
        image = isl.Set(f"{{ [{', '.join(f'd{k}' for k in range(len(shape)))}] : 1 = 0 }}")
        for target, loops, domain in self._writes(op):
            if target.base == base:
                if not target.subscripts:
                    return True
                image = image.union(self._image(target.subscripts, loops, domain))
        names = [f"d{position}" for position in range(len(shape))]
        ranges = " and ".join(f"0 <= {name} < {extent}" for name, extent in zip(names, shape, strict=True))
        return bool(isl.Set(f"{{ [{', '.join(names)}] : {ranges} }}").is_subset(image))

    def _measure(self, op: Operation, rows: dict[str, int]) -> None:
        """Note how far the op's accesses reach: their rows, and their last elements."""
        if op.steps:
            for step in op.steps:
                for element in (step.target, *elements(step.value)):
                    self._reach(element, step.loops, self._sized.at(step.domain), rows)
            return
        domain, cover = self._sized.at(op.domain), self._sized.at(op.cover)
        self._reach(op.target, op.kept, cover, rows)
        for element in op.reads:
            if {symbol for poly in element.subscripts for symbol in poly.symbols} & set(op.reduced):
                self._reach(element, op.loops, domain, rows)
            else:
                self._reach(element, op.kept, cover, rows)

    def _reach(self, element: Element, loops: Sequence[str], domain: isl.Set, rows: dict[str, int]) -> None:
        base = element.base
        rows.setdefault(base, 1)
        if base == RESULT or not element.subscripts or domain.is_empty():
            return
        low, high = self._range(element.subscripts[0], loops, domain)
        if low < 0:
            raise Abstained(Reason.SUBSCRIPT, "a subscript below the start of its array")
        rows[base] = max(rows[base], high + 1)
        if not base.startswith(CELL):
            last = self._range(self._flat(element), loops, domain)[1]
            self.reached[base] = max(self.reached.get(base, 1), last + 1)

    def _flat(self, element: Element) -> Poly:
        """The place of an element, counted from the array's start."""
        flat, *inner = element.subscripts
        for poly, extent in zip(inner, self._accesses.arrays[element.base].extents, strict=True):
            flat = flat * self._sized.number(extent) + poly
        return flat

    def _cell(self, target: Element, loops: Sequence[str], domain: isl.Set) -> None:
        """A cell has an extent for each loop that it is kept for."""
        if domain.is_empty():
            return
        shape = [self._range(poly, loops, domain)[1] + 1 for poly in target.subscripts]
        known = self.of.get(target.base, ())
        grown = [max(a, b) for a, b in zip(shape, known, strict=True)] if len(known) == len(shape) else shape
        self.of[target.base] = tuple(grown) or (1,)

    def _range(self, poly: Poly, loops: Sequence[str], domain: isl.Set) -> tuple[int, int]:
        image = self._image([poly], loops, domain)
        return int(image.dim_min_val(0).to_python()), int(image.dim_max_val(0).to_python())

    def _image(self, polys: Sequence[Poly], loops: Sequence[str], domain: isl.Set) -> isl.Set:
        """The values of polynomials of counters."""
        counters = frozenset(loops)
        texts = [self._accesses.polyhedra.text(poly.substitute(self._sized.values), counters) for poly in polys]
        return domain.apply(isl.Map(f"{{ [{', '.join(loops)}] -> [{', '.join(texts)}] }}"))
