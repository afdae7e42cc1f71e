"""Integer polynomials over named symbols: what subscripts, bounds and offsets are before anything is proven of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

Monomial = tuple[str, ...]
"""Symbols in order, a symbol as often as its power; the empty one is the constant."""

MOST_TERMS = 64


class TooManyTerms(Exception):
    """A product would have more than MOST_TERMS terms."""


@dataclass(frozen=True)
class Poly:
    """A sum of integer multiples of monomials; equal polynomials are equal objects."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def of(value: int | str) -> Poly:
        """A constant, or a symbol."""
        if isinstance(value, str):
            return Poly((((value,), 1),))
        return Poly((((), value),)) if value else ZERO

    @staticmethod
    def from_terms(terms: Mapping[Monomial, int]) -> Poly:
        if len(terms) > MOST_TERMS:
            raise TooManyTerms
        return Poly(tuple(sorted((m, c) for m, c in terms.items() if c)))

    def __add__(self, other: Poly | int) -> Poly:
        terms = dict(self.terms)
        for monomial, factor in _poly(other).terms:
            terms[monomial] = terms.get(monomial, 0) + factor
        return Poly.from_terms(terms)

    def __neg__(self) -> Poly:
        return Poly(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: Poly | int) -> Poly:
        return self + -_poly(other)

    def __mul__(self, other: Poly | int) -> Poly:
        terms: dict[Monomial, int] = {}
        for m, c in self.terms:
            for n, d in _poly(other).terms:
                both = tuple(sorted(m + n))
                terms[both] = terms.get(both, 0) + c * d
        return Poly.from_terms(terms)

    @cached_property
    def symbols(self) -> frozenset[str]:
        return frozenset(s for monomial, _ in self.terms for s in monomial)

    @property
    def constant(self) -> int | None:
        """The value, where there is no symbol."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def constant_term(self) -> int:
        return dict(self.terms).get((), 0)

    def coefficient(self, symbol: str) -> Poly:
        """The polynomial that multiplies the first power of `symbol`. Higher powers raise ValueError."""
        terms: dict[Monomial, int] = {}
        for monomial, factor in self.terms:
            if monomial.count(symbol) > 1:
                raise ValueError(f"{symbol} has a higher power")
            if symbol in monomial:
                rest = list(monomial)
                rest.remove(symbol)
                terms[tuple(rest)] = factor
        return Poly.from_terms(terms)

    def without(self, symbols: Iterable[str]) -> Poly:
        """The terms that have none of these symbols."""
        gone = frozenset(symbols)
        return Poly(tuple((m, c) for m, c in self.terms if not gone & set(m)))

    def substitute(self, values: Mapping[str, Poly]) -> Poly:
        if not self.symbols & values.keys():
            return self
        total = ZERO
        for monomial, factor in self.terms:
            product = Poly.of(factor)
            for symbol in monomial:
                product = product * values.get(symbol, Poly.of(symbol))
            total = total + product
        return total

    def divided(self, divisor: int) -> Poly | None:
        """The quotient, where every factor is a multiple of `divisor`."""
        if any(c % divisor for _, c in self.terms):
            return None
        return Poly(tuple((m, c // divisor) for m, c in self.terms))

    def parted(self, divisor: Poly) -> tuple[Poly, Poly]:
        """Quotient and remainder, by the divisor's greatest monomial; factors are rounded to the nearest."""
        lead, factor = max(divisor.terms, key=lambda term: (len(term[0]), term[0]))
        quotient, rest = ZERO, self
        for _ in range(MOST_TERMS):
            found = next(
                (t for t in reversed(rest.terms) if _rest(t[0], lead) is not None and _nearest(t[1], factor)), None
            )
            if found is None:
                break
            monomial = _rest(found[0], lead)
            assert monomial is not None
            part = Poly(((monomial, _nearest(found[1], factor)),))
            quotient, rest = quotient + part, rest - part * divisor
        return quotient, rest

    def text(self, names: Mapping[str, str] | None = None) -> str:
        parts: list[str] = []
        for monomial, factor in sorted(self.terms, key=lambda t: (-len(t[0]), t[0])):
            body = "*".join((names or {}).get(s, s) for s in monomial)
            size = abs(factor)
            part = body if size == 1 and body else f"{size}*{body}" if body else str(size)
            sign = "-" if factor < 0 else "+"
            parts.append(f" {sign} {part}" if parts else f"-{part}" if factor < 0 else part)
        return "".join(parts) or "0"


def _rest(monomial: Monomial, factor: Monomial) -> Monomial | None:
    """The monomial without the symbols of a factor; None where it has not all of them."""
    left = list(monomial)
    for symbol in factor:
        if symbol not in left:
            return None
        left.remove(symbol)
    return tuple(left)


def _nearest(a: int, b: int) -> int:
    """a / b rounded to the nearest, halves towards zero."""
    size, rest = divmod(abs(a), abs(b))
    size += 2 * rest > abs(b)
    return size if (a < 0) == (b < 0) else -size


ZERO = Poly(())
ONE = Poly.of(1)


def _poly(value: Poly | int) -> Poly:
    return Poly.of(value) if isinstance(value, int) else value
