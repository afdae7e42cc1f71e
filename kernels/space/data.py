"""Candidates, knobs, limits and sketches: plain data that replays exactly."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels.passes import PassConfig

Decision = int | tuple[int, ...]


DEFAULT_SKETCH = -1
"""The sketch number of the untuned program: TVM's lowering with no schedule at all."""


class InvalidCandidate(Exception):
    """A candidate whose decisions cannot be applied, or whose program the target forbids."""


@dataclass(frozen=True)
class Candidate:
    """One point of a design space: hashable, replayable, printable on one line."""

    sketch: int
    decisions: tuple[Decision, ...] = ()
    passes: PassConfig = PassConfig()

    @property
    def is_default(self) -> bool:
        return self.sketch == DEFAULT_SKETCH

    def to_text(self) -> str:
        """One line of JSON: `[sketch, [decision, ...], "passes"]`."""
        return json.dumps([self.sketch, self.decisions, self.passes.to_text()], separators=(",", ":"))

    @staticmethod
    def from_text(text: str) -> Candidate:
        """The inverse of `to_text`. Raises ValueError when the text is no candidate."""
        try:
            sketch, decisions, passes = json.loads(text)
            if not isinstance(decisions, list):
                raise TypeError("decisions are a list")
            return Candidate(
                int(sketch),
                tuple(tuple(map(int, d)) if isinstance(d, list) else int(d) for d in decisions),
                PassConfig.from_text(passes),
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a candidate: {text[:80]!r}") from error


@dataclass(frozen=True)
class Knob:
    """One decision of a sketch. `choices` are ordered so that neighbours in the list are alike.

    `role`: `spatial` or `reduce` for tiles of the anchor's loops in their order, `location`,
    or `choice`.
    """

    role: str
    choices: tuple[Decision, ...]
    instruction: int

    @functools.cached_property
    def index(self) -> Mapping[Decision, int]:
        return {choice: i for i, choice in enumerate(self.choices)}

    @property
    def default(self) -> Decision:
        """The choice that changes least: a tile that leaves its loop whole, the first of anything else."""
        return self.choices[0]

    def sample(self, rng: np.random.Generator) -> Decision:
        """Any choice, each as likely as any other."""
        return self.choices[int(rng.integers(len(self.choices)))]

    def neighbours(self, decision: Decision) -> tuple[Decision, ...]:
        """The choices one step away: the next in the list, or a tile with a prime factor moved between two parts."""
        if not isinstance(decision, tuple):
            i = self.index[decision]
            return self.choices[max(i - 1, 0) : i] + self.choices[i + 1 : i + 2]
        moved = (
            tuple(f // p if at == source else f * p if at == target else f for at, f in enumerate(decision))
            for source, target in itertools.permutations(range(len(decision)), 2)
            for p in prime_factors(decision[source])
        )
        return tuple(choice for choice in moved if choice in self.index)

    def encode(self, decision: Decision) -> tuple[float, ...]:
        """Log2 of each factor of a tile; the number itself of anything else."""
        if isinstance(decision, tuple):
            return tuple(math.log2(max(factor, 1)) for factor in decision)
        return (float(decision),)


@dataclass(frozen=True)
class Term:
    """`scale` times the product, over knobs, of the named parts of their factors.

    `parts` holds (position of the knob, indices of its parts); negative indices count from the innermost.
    """

    parts: tuple[tuple[int, tuple[int, ...]], ...]
    scale: int = 1

    def factor(self, position: int, decision: Decision) -> int:
        """What one knob's decision contributes."""
        factors = as_parts(decision)
        return math.prod(factors[i] for at, indices in self.parts if at == position for i in indices)

    def value(self, decisions: Sequence[Decision]) -> int:
        return self.scale * math.prod(self.factor(position, decisions[position]) for position, _ in self.parts)


@dataclass(frozen=True)
class Limit:
    """The sum of the terms is at least `least` and at most `most` (None: no bound).

    Threads of a block are one product; the elements of two tiles in shared memory are a sum of two.
    """

    name: str
    terms: tuple[Term, ...]
    most: int | None = None
    least: int = 0

    def kept(self, decisions: Sequence[Decision]) -> bool:
        total = sum(term.value(decisions) for term in self.terms)
        return total >= self.least and (self.most is None or total <= self.most)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Limit:
        """The inverse of `dataclasses.asdict`, through JSON."""
        terms = tuple(
            Term(tuple((int(at), tuple(map(int, indices))) for at, indices in t["parts"]), int(t["scale"]))
            for t in data["terms"]
        )
        return Limit(data["name"], terms, data["most"], data["least"])


@dataclass(frozen=True)
class Sketch:
    """The shape of a schedule with its decisions left open. `trace` is TVM's trace as JSON.

    `rule` names what made it: TVM's own rules, or one of our recipes.
    """

    number: int
    trace: str = field(repr=False)
    knobs: tuple[Knob, ...]
    limits: tuple[Limit, ...] = ()
    rule: str = "tvm"

    @property
    def tiles(self) -> tuple[tuple[int, Knob], ...]:
        """The tile knobs with their positions among the decisions."""
        return tuple((i, k) for i, k in enumerate(self.knobs) if k.role in ("spatial", "reduce"))

    @property
    def levels(self) -> tuple[int, int]:
        """How many parts spatial and reduction loops are cut into; (0, 0) without tiles."""
        spatial = [len(parts_of(k)) for k in self.knobs if k.role == "spatial"]
        reduce = [len(parts_of(k)) for k in self.knobs if k.role == "reduce"]
        return (spatial[0] if spatial else 0, reduce[0] if reduce else 0)


def parts_of(knob: Knob) -> tuple[int, ...]:
    return as_parts(knob.choices[0])


def as_parts(decision: Decision) -> tuple[int, ...]:
    return decision if isinstance(decision, tuple) else (decision,)


@functools.lru_cache(maxsize=4096)
def prime_factors(n: int) -> tuple[int, ...]:
    """The distinct primes that divide n."""
    return tuple(p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, math.isqrt(p) + 1)))
