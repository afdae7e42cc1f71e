"""The iteration domain of a block: affine forms over it, and how it is cut into chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

Array = NDArray[Any]

CHUNK = 1 << 25
"""Elements of the operands of one step: 256 MiB in float64."""


class Unsupported(Exception):
    """A program that this evaluator has no rule for. The caller then compares with an untuned build."""


@dataclass(frozen=True)
class Atom:
    """A digit of an iteration variable: the variable is the sum of its atoms times their weights."""

    var: Any
    weight: int
    extent: int
    reduce: bool


class NotAffine(Exception):
    """An index that is no sum of atoms times constants."""


class NeedSplit(Exception):
    """An index that is affine once an atom is split by a factor."""

    def __init__(self, atom: Atom, factor: int) -> None:
        super().__init__()
        self.atom = atom
        self.factor = factor


Range = tuple[int, int]
"""From the first index of an atom to the one after the last."""


@dataclass(frozen=True)
class Domain:
    """The atoms of a block, spatial ones first; each is an axis of every array of the block."""

    atoms: tuple[Atom, ...]

    @property
    def spatial(self) -> int:
        return sum(not a.reduce for a in self.atoms)

    def full(self) -> tuple[Range, ...]:
        return tuple((0, a.extent) for a in self.atoms)

    def split(self, atom: Atom, factor: int) -> Domain:
        """The domain with an atom as two: its quotient and its remainder by a factor."""
        quotient_and_remainder = (
            Atom(atom.var, atom.weight * factor, atom.extent // factor, atom.reduce),
            Atom(atom.var, atom.weight, factor, atom.reduce),
        )
        i = self.atoms.index(atom)
        return Domain((*self.atoms[:i], *quotient_and_remainder, *self.atoms[i + 1 :]))

    def indices(self, ranges: Sequence[Range]) -> dict[Any, Array]:
        """Each variable's values over the ranges, as an array that broadcasts along the other axes."""
        values: dict[Any, Array] = {}
        for axis, (atom, (low, high)) in enumerate(zip(self.atoms, ranges, strict=True)):
            shape = [1] * len(self.atoms)
            shape[axis] = high - low
            digits = (np.arange(low, high, dtype=np.int64) * atom.weight).reshape(shape)
            values[atom.var] = values[atom.var] + digits if atom.var in values else digits
        return values

    def linear(self, expr: Any) -> tuple[list[int], int]:
        """`expr` as coefficients of the atoms and a constant. Raises NotAffine or NeedSplit."""
        if isinstance(expr, tirx.IntImm):
            return [0] * len(self.atoms), int(expr.value)
        if isinstance(expr, tirx.Var):
            weights = [a.weight if a.var.same_as(expr) else 0 for a in self.atoms]
            if not any(weights):
                raise NotAffine
            return weights, 0
        if isinstance(expr, tirx.Cast):
            return self.linear(expr.value)
        if isinstance(expr, (tirx.Add, tirx.Sub)):
            (a, x), (b, y) = self.linear(expr.a), self.linear(expr.b)
            sign = 1 if isinstance(expr, tirx.Add) else -1
            return [p + sign * q for p, q in zip(a, b, strict=True)], x + sign * y
        if isinstance(expr, tirx.Mul):
            (a, x), (b, y) = self.linear(expr.a), self.linear(expr.b)
            if any(a) and any(b):
                raise NotAffine
            return [p * y + q * x for p, q in zip(a, b, strict=True)], x * y
        if isinstance(expr, (tirx.FloorDiv, tirx.FloorMod)) and isinstance(expr.b, tirx.IntImm):
            return self._divided(*self.linear(expr.a), int(expr.b.value), isinstance(expr, tirx.FloorDiv))
        raise NotAffine

    def _divided(self, terms: list[int], constant: int, by: int, quotient: bool) -> tuple[list[int], int]:
        """Floor division or modulo. It is affine when the terms that are no multiples of `by` stay within [0, by)."""
        if by <= 0:
            raise NotAffine
        rest = [t if t % by else 0 for t in terms]
        low, high = bounds(rest, constant % by, self.full())
        if low >= 0 and high < by:
            if quotient:
                return [(t - r) // by for t, r in zip(terms, rest, strict=True)], constant // by
            return rest, constant % by
        for term, atom in zip(rest, self.atoms, strict=True):
            factor = by // term if term > 0 and by % term == 0 else 0
            if 1 < factor < atom.extent and atom.extent % factor == 0:
                raise NeedSplit(atom, factor)
        raise NotAffine


def bounds(terms: Sequence[int], constant: int, ranges: Sequence[Range]) -> Range:
    """Least and greatest value of an affine form."""
    ends = [(t * low, t * (high - 1)) for t, (low, high) in zip(terms, ranges, strict=True)]
    return constant + sum(min(e) for e in ends), constant + sum(max(e) for e in ends)


def chunks(domain: Domain, groups: Sequence[Sequence[bool]]) -> Iterator[tuple[Range, ...]]:
    """Ranges that cut the domain so that the groups' sizes add up to at most CHUNK elements.

    `groups[g][axis]` says whether group g (an operand) extends along an axis. Each cut halves the axis that shrinks the
    operands most.
    """
    steps = [a.extent for a in domain.atoms]

    def cost(sizes: Sequence[int]) -> int:
        return sum(math.prod(s for s, inside in zip(sizes, group, strict=True) if inside) for group in groups)

    while cost(steps) > CHUNK and max(steps) > 1:
        halved = [[(s + 1) // 2 if i == axis else s for i, s in enumerate(steps)] for axis in range(len(steps))]
        steps = min(halved, key=cost)
    cuts = (
        [(low, min(low + step, a.extent)) for low in range(0, a.extent, max(step, 1))]
        for a, step in zip(domain.atoms, steps, strict=True)
    )
    return itertools.product(*cuts)
