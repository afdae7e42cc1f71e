"""How far a function reaches into its arrays, at sizes other than those that it is raised for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kernels.raising.findings import Analysis
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import TooManyTerms
from kernels.raising.reasons import Abstained
from kernels.raising.shapes import Shapes
from kernels.raising.sizes import Sized
from kernels.raising.steps import unrolled

_MOST = 24
"""Other sizes, at most: each is a call of the function and of its original."""

_SMALL = (1, 2, 3, 7, 13)


def others(analysis: Analysis, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """What the function reaches at smaller, odd, prime and larger sizes, and where one size alone is another: `sizes`
    by LLVM's names, and the `elements` of each array, by its position. Sizes for which that is not known are left out.
    """
    found = []
    for other in _other_sizes(sizes):
        try:
            found.append({"sizes": other, "elements": _elements(analysis, other)})
        except (Abstained, isl.Error, TooManyTerms, ValueError, KeyError):
            continue  # not a size of this function, as it is understood
    return found


def _other_sizes(sizes: Mapping[str, int]) -> list[dict[str, int]]:
    def every() -> Iterator[dict[str, int]]:
        yield {name: prime_above(number) for name, number in sizes.items()}
        for name, number in sizes.items():
            if len(sizes) > 1:
                yield {**sizes, name: number + 1}
            yield {**sizes, name: max(number - 1, 0)}
        for small in _SMALL:
            yield {name: min(small, number) for name, number in sizes.items()}

    different: list[dict[str, int]] = []
    for other in every():
        if other != dict(sizes) and other not in different:
            different.append(other)
    return different[:_MOST]


def prime_above(number: int) -> int:
    """The least prime that is greater."""
    number += 1
    while number < 2 or any(number % factor == 0 for factor in range(2, int(number**0.5) + 1)):
        number += 1
    return number


def _elements(analysis: Analysis, sizes: Mapping[str, int]) -> dict[int, int]:
    sized = Sized(analysis, sizes)
    shapes = Shapes(sized, unrolled(analysis.operations, sized))
    places = {argument.name: number for number, argument in enumerate(analysis.function.arguments)}
    return {places[base]: shapes.reached.get(base, 1) for base in shapes.of if base in places}
