"""The design space: its sketches, and the moves between their candidates."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.passes import PASSES, PassConfig
from kernels.space.constraints import legal
from kernels.space.data import DEFAULT_SKETCH, Candidate, Knob, Sketch
from kernels.space.encoding import encode
from kernels.space.gpu import GpuModel
from kernels.space.solver import draw
from kernels.space.seeds import first_guesses


@dataclass(frozen=True)
class DesignSpace:
    """All candidates of one workload on one kind of target."""

    target_kind: str
    sketches: tuple[Sketch, ...]
    pass_names: tuple[str, ...] = tuple(PASSES)
    vector_lanes: int = 16

    # --- structure -----------------------------------------------------------------------------

    @functools.cached_property
    def pass_variants(self) -> tuple[tuple[Any, ...], ...]:
        return tuple(PASSES[name].variants(self.target_kind) for name in self.pass_names)

    def sizes(self, sketch: int) -> tuple[int, ...]:
        """How many choices each coordinate of a sketch has: its knobs, then the passes."""
        knobs = tuple(len(k.choices) for k in self.sketches[sketch].knobs)
        return knobs + tuple(len(v) for v in self.pass_variants)

    def to_indices(self, candidate: Candidate) -> tuple[int, ...]:
        """A candidate as one index a coordinate, in the order of `sizes`."""
        knobs = self.sketches[candidate.sketch].knobs
        own = tuple(k.index[d] for k, d in zip(knobs, candidate.decisions, strict=True))
        settings = {s.name: s for s in candidate.passes.settings}
        return own + tuple(
            variants.index(settings[name]) if settings[name] in variants else 0
            for name, variants in zip(self.pass_names, self.pass_variants, strict=True)
        )

    def from_indices(self, sketch: int, indices: Sequence[int]) -> Candidate:
        knobs = self.sketches[sketch].knobs
        decisions = tuple(k.choices[i] for k, i in zip(knobs, indices, strict=False))
        passes = PassConfig()
        for variants, i in zip(self.pass_variants, indices[len(knobs) :], strict=True):
            passes = passes.replace(variants[i])
        return Candidate(sketch, decisions, passes)

    def size(self) -> int:
        """The number of points, legal or not."""
        return sum(math.prod(self.sizes(s.number)) for s in self.sketches)

    # --- legality that needs no TVM --------------------------------------------------------------

    def contains(self, candidate: Candidate) -> bool:
        """Whether the candidate names a sketch of this space and one of the choices of each of its knobs."""
        if candidate.is_default:
            return not candidate.decisions
        if not 0 <= candidate.sketch < len(self.sketches):
            return False
        knobs = self.sketches[candidate.sketch].knobs
        chosen = candidate.decisions
        return len(chosen) == len(knobs) and all(d in k.index for k, d in zip(knobs, chosen, strict=True))

    def legal(self, candidate: Candidate) -> bool:
        """Whether the candidate respects the limits that are products of its decisions."""
        if candidate.is_default:
            return True
        return legal(self.sketches[candidate.sketch], candidate.decisions, self.target_kind)

    # --- moves ----------------------------------------------------------------------------------

    def default(self) -> Candidate:
        """The untuned program."""
        return Candidate(DEFAULT_SKETCH)

    def sample(self, rng: np.random.Generator, vary_passes: float = 0.3) -> Candidate:
        """A random legal candidate. Each pass leaves its default with probability `vary_passes`."""
        for _ in range(100):
            candidate = self.sample_sketch(int(rng.integers(len(self.sketches))), rng, vary_passes)
            if self.legal(candidate):
                return candidate
        return candidate

    def sample_sketch(self, sketch: int, rng: np.random.Generator, vary_passes: float = 0.3) -> Candidate:
        """A random candidate of one sketch, within a GPU's limits; on a CPU it may be illegal."""
        indices = draw(self.sketches[sketch], rng)
        for variants in self.pass_variants:
            indices.append(int(rng.integers(len(variants))) if rng.random() < vary_passes else 0)
        return self.from_indices(sketch, indices)

    def mutate(self, candidate: Candidate, rng: np.random.Generator, changes: int = 1) -> Candidate:
        """Change `changes` coordinates: half the time to a neighbour, otherwise to any choice."""
        if candidate.is_default:
            return self.sample(rng)
        sizes = self.sizes(candidate.sketch)
        free = [i for i, n in enumerate(sizes) if n > 1]
        if not free:
            return candidate
        for _ in range(20):
            indices = list(self.to_indices(candidate))
            for i in rng.choice(free, size=min(changes, len(free)), replace=False):
                if rng.random() < 0.5:
                    indices[i] = int(np.clip(indices[i] + rng.choice((-1, 1)), 0, sizes[i] - 1))
                else:
                    indices[i] = int(rng.integers(sizes[i]))
            mutated = self.from_indices(candidate.sketch, indices)
            if mutated != candidate and self.legal(mutated):
                return mutated
        return candidate

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate:
        """Each coordinate from one of two parents; of the first where their sketches differ."""
        if a.sketch != b.sketch or a.is_default:
            return self.mutate(a, rng)
        pairs = zip(self.to_indices(a), self.to_indices(b), strict=True)
        child = self.from_indices(a.sketch, [x if rng.random() < 0.5 else y for x, y in pairs])
        return child if self.legal(child) else a

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """Every legal candidate one step away along one coordinate."""
        if candidate.is_default:
            return
        sizes = self.sizes(candidate.sketch)
        base = self.to_indices(candidate)
        for i, n in enumerate(sizes):
            for step in (-1, 1):
                if 0 <= base[i] + step < n:
                    moved = self.from_indices(candidate.sketch, (*base[:i], base[i] + step, *base[i + 1 :]))
                    if self.legal(moved):
                        yield moved

    # --- numbers ----------------------------------------------------------------------------------

    def encode(self, candidate: Candidate) -> NDArray[np.float32]:
        """A candidate as ENCODING_LENGTH numbers of the same meaning for every workload."""
        return encode(candidate, None if candidate.is_default else self.sketches[candidate.sketch])

    # --- first guesses ------------------------------------------------------------------------------

    def seeds(self, limit: int = 24) -> list[Candidate]:
        """Analytical first guesses, the most promising first."""
        return first_guesses(self.sketches, self.target_kind, self.vector_lanes)[:limit]

    # --- as data --------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "target_kind": self.target_kind,
            "pass_names": list(self.pass_names),
            "vector_lanes": self.vector_lanes,
            "sketches": [
                {
                    "trace": s.trace,
                    "knobs": [[k.role, k.choices, k.instruction] for k in s.knobs],
                    "gpu": s.gpu.to_json() if s.gpu else None,
                }
                for s in self.sketches
            ],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> DesignSpace:
        sketches: list[Sketch] = []
        for number, s in enumerate(data["sketches"]):
            knobs = tuple(
                Knob(role, tuple(tuple(c) if isinstance(c, list) else c for c in choices), instruction)
                for role, choices, instruction in s["knobs"]
            )
            sketches.append(Sketch(number, s["trace"], knobs, GpuModel.from_json(s["gpu"]) if s["gpu"] else None))
        return DesignSpace(data["target_kind"], tuple(sketches), tuple(data["pass_names"]), data["vector_lanes"])
