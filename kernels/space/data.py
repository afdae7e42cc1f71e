"""Candidates, knobs, limits and sketches: plain data that reproduces a schedule exactly."""

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
from kernels.space.decision import Decision, as_factors
from kernels.space.gpu import GpuModel

DEFAULT_SKETCH = -1
"""The sketch number of the untuned program: TVM's lowering with no schedule at all."""


class InvalidCandidate(Exception):
    """A candidate whose decisions cannot be applied, or whose program the target forbids."""


@dataclass(frozen=True)
class Candidate:
    """One point of a design space: hashable, reproducible, printable on one line."""

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
        """The inverse of `to_text`. Raises ValueError when the text is not a candidate."""
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

    `role` is `spatial` or `reduce` for tiles of the anchor's loops in their order, else `location` or `choice`.
    `instruction` is the number of the trace instruction that samples the decision.
    """

    role: str
    choices: tuple[Decision, ...]
    instruction: int

    @functools.cached_property
    def index(self) -> Mapping[Decision, int]:
        """The position of each choice."""
        return {choice: i for i, choice in enumerate(self.choices)}

    @property
    def default(self) -> Decision:
        """The choice that changes least: a tile that leaves its loop whole, the first of anything else."""
        return self.choices[0]

    @property
    def extent(self) -> int:
        """The extent of the loop that a tile knob cuts: the product of the tile factors of any of its choices."""
        return math.prod(as_factors(self.default))

    @property
    def num_factors(self) -> int:
        """How many factors a tile has; 1 for what is no tile."""
        return len(as_factors(self.default))

    def sample(self, rng: np.random.Generator) -> Decision:
        """A uniformly drawn choice."""
        return self.choices[int(rng.integers(len(self.choices)))]

    def neighbours(self, decision: Decision) -> tuple[Decision, ...]:
        """The choices one step away: the next in the list, or a tile with a prime moved between two of its factors."""
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
class FactorProduct:
    """`scale` times a product of tile factors of several knobs.

    `factors` holds (position of the knob, indices of its factors); negative indices count from the innermost.
    """

    factors: tuple[tuple[int, tuple[int, ...]], ...]
    scale: int = 1

    def contribution(self, position: int, decision: Decision) -> int:
        """The product of the factors that one knob's decision contributes."""
        chosen = as_factors(decision)
        return math.prod(chosen[i] for knob, indices in self.factors if knob == position for i in indices)

    def value(self, decisions: Sequence[Decision]) -> int:
        return self.scale * math.prod(self.contribution(knob, decisions[knob]) for knob, _ in self.factors)


@dataclass(frozen=True)
class Limit:
    """The sum of the products is at least `least` and at most `most` (None: no bound).

    The threads of a block are one product; the elements of two tiles in shared memory are a sum of two.
    """

    name: str
    products: tuple[FactorProduct, ...]
    most: int | None = None
    least: int = 0

    def satisfied(self, decisions: Sequence[Decision]) -> bool:
        total = sum(product.value(decisions) for product in self.products)
        return total >= self.least and (self.most is None or total <= self.most)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Limit:
        """The inverse of `dataclasses.asdict`, through JSON."""
        products = tuple(
            FactorProduct(
                tuple((int(knob), tuple(map(int, indices))) for knob, indices in product["factors"]),
                int(product["scale"]),
            )
            for product in data["products"]
        )
        return Limit(data["name"], products, data["most"], data["least"])


@dataclass(frozen=True)
class Sketch:
    """The shape of a schedule with its decisions left open. `trace` is TVM's trace as JSON.

    `rule` names the sketch rule that made it: `tvm` for TVM's own. `gpu` holds the formulas of the resources that a
    tiled GPU sketch uses, in place of `limits`; None on a CPU, and where nothing is tiled.
    """

    number: int
    trace: str = field(repr=False)
    knobs: tuple[Knob, ...]
    limits: tuple[Limit, ...] = ()
    rule: str = "tvm"
    gpu: GpuModel | None = None

    @property
    def tiles(self) -> tuple[tuple[int, Knob], ...]:
        """The tile knobs with their positions among the decisions."""
        return tuple((i, k) for i, k in enumerate(self.knobs) if k.role in ("spatial", "reduce"))

    @property
    def levels(self) -> tuple[int, int]:
        """How many factors the tiles of spatial and of reduction loops have; (0, 0) without tiles."""
        spatial = [k.num_factors for k in self.knobs if k.role == "spatial"]
        reduce = [k.num_factors for k in self.knobs if k.role == "reduce"]
        return (spatial[0] if spatial else 0, reduce[0] if reduce else 0)


@functools.lru_cache(maxsize=4096)
def prime_factors(n: int) -> tuple[int, ...]:
    """The distinct primes that divide n."""
    return tuple(p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, math.isqrt(p) + 1)))
