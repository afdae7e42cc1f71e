"""Solves for decisions that satisfy their limits: counts, numbers and draws the legal ones exactly.

Limits depend on the decisions only through a few products. So legal sets are counted knob by knob (dynamic programming
over the products so far), and each of them has a number. Drawing a number draws a legal set uniformly, and nothing is
rejected.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.space.data import Knob, Limit
from kernels.space.decision import Decision

MAX_STATES = 50_000
"""States (distinct products) at one knob beyond which counting gives way to an estimate: some seconds and 100 MB."""

_ESTIMATE_DRAWS = 4096


@dataclass(frozen=True)
class Count:
    """How many legal points there are; `relative_error` is 0 for an exact count, else one standard error."""

    points: int
    relative_error: float = 0.0


class TooManyStates(Exception):
    """The limits tie too many knobs together for an exact count."""


class Solver:
    """The legal decisions of one list of knobs. Counting is done once, when it is first needed.

    A state is one product so far for each distinct FactorProduct of the limits.
    """

    def __init__(self, knobs: Sequence[Knob], limits: Sequence[Limit]) -> None:
        self._knobs = tuple(knobs)
        self._limits = tuple(limits)
        self._products = tuple(dict.fromkeys(product for limit in limits for product in limit.products))
        self._position = {product: i for i, product in enumerate(self._products)}

    def satisfied(self, decisions: Sequence[Decision]) -> bool:
        """Whether decisions satisfy every limit."""
        return all(limit.satisfied(decisions) for limit in self._limits)

    def violated(self, decisions: Sequence[Decision]) -> str:
        """The name of the first limit that decisions violate; empty when they satisfy all."""
        return next((limit.name for limit in self._limits if not limit.satisfied(decisions)), "")

    def count(self) -> Count:
        """How many sets of decisions satisfy every limit, exactly where the states are few enough."""
        try:
            return Count(self._completions[0].get(self._start, 0))
        except TooManyStates:
            return self._estimate()

    def decisions(self, number: int) -> tuple[int, ...]:
        """The legal set of a number below `count()`, as one index of a choice for each knob.

        Raises TooManyStates where they are not counted exactly, and IndexError when there are fewer.
        """
        state = self._start
        if not 0 <= number < self._completions[0].get(state, 0):
            raise IndexError(f"no legal point {number}")
        indices = []
        for depth, groups in enumerate(self._groups):
            for factors, members in groups.items():
                after = self._after(state, factors, depth)
                ways = self._completions[depth + 1].get(after, 0) if after is not None else 0
                if number < ways * len(members):
                    member, number = divmod(number, ways)
                    indices.append(members[member])
                    state = after  # type: ignore[assignment]
                    break
                number -= ways * len(members)
        return tuple(indices)

    def draw(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A uniformly drawn legal set, as one index for each knob; None when there is none.

        Where counting is out of reach, it is the first legal one of some thousand plain draws.
        """
        try:
            total = self._completions[0].get(self._start, 0)
        except TooManyStates:
            return next((drawn for drawn in self._plain_draws(rng) if self._legal(drawn)), None)
        return self.decisions(_below(total, rng)) if total else None

    # --- counting ---------------------------------------------------------------------------------

    @functools.cached_property
    def _groups(self) -> list[Mapping[tuple[int, ...], list[int]]]:
        """For each knob: its choices by what they contribute to each product."""
        grouped: list[Mapping[tuple[int, ...], list[int]]] = []
        for position, knob in enumerate(self._knobs):
            groups: dict[tuple[int, ...], list[int]] = {}
            for i, choice in enumerate(knob.choices):
                factors = tuple(product.contribution(position, choice) for product in self._products)
                groups.setdefault(factors, []).append(i)
            grouped.append(groups)
        return grouped

    @property
    def _start(self) -> tuple[int, ...]:
        return (1,) * len(self._products)

    @functools.cached_property
    def _largest_rest(self) -> list[tuple[int, ...]]:
        """At each depth: the largest factor by which each product can still grow."""
        rest = [(1,) * len(self._products)]
        for groups in reversed(self._groups):
            most = tuple(max(column) for column in zip(*groups, strict=True)) if self._products else ()
            rest.append(tuple(a * b for a, b in zip(rest[-1], most, strict=True)))
        return rest[::-1]

    def _after(self, state: tuple[int, ...], factors: tuple[int, ...], depth: int) -> tuple[int, ...] | None:
        """The state after one more knob; None when a limit can no longer be satisfied.

        A product of which every limit will be satisfied whatever follows can no longer matter. It becomes 0, which
        keeps the states few.
        """
        products = tuple(a * b for a, b in zip(state, factors, strict=True))
        rest = self._largest_rest[depth + 1]
        needed = [False] * len(products)
        for limit in self._limits:
            terms = [(self._position[product], product.scale) for product in limit.products]
            if any(products[i] == 0 for i, _ in terms):
                continue
            low = sum(scale * products[i] for i, scale in terms)
            high = sum(scale * products[i] * rest[i] for i, scale in terms)
            if (limit.most is not None and low > limit.most) or high < limit.least:
                return None
            if low < limit.least or (limit.most is not None and high > limit.most):
                for i, _ in terms:
                    needed[i] = True
        return tuple(p if keep else 0 for p, keep in zip(products, needed, strict=True))

    @functools.cached_property
    def _completions(self) -> list[dict[tuple[int, ...], int]]:
        """At each depth, by state: in how many ways the remaining knobs can be set legally."""
        layers: list[set[tuple[int, ...]]] = [{self._start}]
        for depth, groups in enumerate(self._groups):
            reached = {self._after(state, factors, depth) for state in layers[-1] for factors in groups}
            layers.append({state for state in reached if state is not None})
            if len(layers[-1]) * len(groups) > MAX_STATES:
                raise TooManyStates
        completions: list[dict[tuple[int, ...], int]] = [dict.fromkeys(layers[-1], 1)]
        for depth in reversed(range(len(self._groups))):
            later = completions[-1]
            completions.append({state: self._ways(state, depth, later) for state in layers[depth]})
        return completions[::-1]

    def _ways(self, state: tuple[int, ...], depth: int, later: Mapping[tuple[int, ...], int]) -> int:
        """In how many ways the knobs from `depth` on can be set, given the ways of each state after that knob."""
        total = 0
        for factors, members in self._groups[depth].items():
            after = self._after(state, factors, depth)
            if after is not None:
                total += len(members) * later.get(after, 0)
        return total

    # --- estimating -------------------------------------------------------------------------------

    def _plain_draws(self, rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
        for _ in range(_ESTIMATE_DRAWS):
            yield tuple(int(rng.integers(len(k.choices))) for k in self._knobs)

    def _legal(self, indices: Iterable[int]) -> bool:
        return self.satisfied([k.choices[i] for k, i in zip(self._knobs, indices, strict=True)])

    def _estimate(self) -> Count:
        """The legal share of plain draws with a fixed seed, with its standard error."""
        hits = sum(map(self._legal, self._plain_draws(np.random.default_rng(0))))
        share = hits / _ESTIMATE_DRAWS
        size = math.prod(len(k.choices) for k in self._knobs)
        error = math.sqrt((1 - share) / max(hits, 1))
        return Count(round(share * size), error if hits else math.inf)


def _below(total: int, rng: np.random.Generator) -> int:
    """A uniform integer below `total`, which may have more bits than a machine word."""
    words = (total.bit_length() + 31) // 32
    while True:
        number = int.from_bytes(rng.bytes(4 * words), "little") & ((1 << total.bit_length()) - 1)
        if number < total:
            return number
