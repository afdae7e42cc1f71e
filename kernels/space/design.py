"""The design space: its sketches, and the moves between their candidates."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.passes import PASSES, PassConfig
from kernels.passes.stream_k import StreamK
from kernels.roofline import Estimate
from kernels.space.data import DEFAULT_SKETCH, Candidate, Knob, Limit, Sketch
from kernels.space.encoding import encode
from kernels.space.gpu import GpuModel
from kernels.space.gpu_initial import RankedDraws, ranked_draws
from kernels.space.gpu_solve import GpuSolver
from kernels.space.gpu_work import predict
from kernels.space.initial import heuristic_candidates
from kernels.space.solve import Count, Solver

_FEW_POINTS = 4096
"""Points up to which a space is listed instead of sampled: making and encoding so many takes a tenth of a second."""


@dataclass(frozen=True)
class DesignSpace:
    """All candidates of one workload on one kind of target."""

    target_kind: str
    sketches: tuple[Sketch, ...]
    pass_names: tuple[str, ...] = tuple(PASSES)
    vector_lanes: int = 16

    @property
    def prior_mean(self) -> Callable[[NDArray[np.float32]], NDArray[np.float64]] | None:
        """What is expected of encodings [n, columns] before anything is measured: log seconds in deviations from their
        mean [n]. None: nothing is."""
        return None

    # --- structure -----------------------------------------------------------------------------

    @functools.cached_property
    def pass_variants(self) -> tuple[tuple[Any, ...], ...]:
        return tuple(PASSES[name].variants(self.target_kind) for name in self.pass_names)

    def sizes(self, sketch: int) -> tuple[int, ...]:
        """The number of choices of each coordinate of a sketch: its knobs, then the passes."""
        knobs = tuple(len(k.choices) for k in self.sketches[sketch].knobs)
        return knobs + tuple(len(v) for v in self.pass_variants)

    def to_indices(self, candidate: Candidate) -> tuple[int, ...]:
        """A candidate as one index for each coordinate, in the order of `sizes`."""
        knobs = self.sketches[candidate.sketch].knobs
        own = tuple(k.index[d] for k, d in zip(knobs, candidate.decisions, strict=True))
        settings = {s.name: s for s in candidate.passes.settings}
        return own + tuple(
            variants.index(settings[name]) if settings[name] in variants else 0
            for name, variants in zip(self.pass_names, self.pass_variants, strict=True)
        )

    def from_indices(self, sketch: int, indices: Sequence[int]) -> Candidate:
        """The inverse of `to_indices`."""
        knobs = self.sketches[sketch].knobs
        decisions = tuple(k.choices[i] for k, i in zip(knobs, indices, strict=False))
        passes = PassConfig()
        for variants, i in zip(self.pass_variants, indices[len(knobs) :], strict=True):
            passes = passes.replace(variants[i])
        return Candidate(sketch, decisions, passes)

    def size(self) -> int:
        """The number of points, legal or not."""
        return sum(math.prod(self.sizes(s.number)) for s in self.sketches)

    def count(self) -> Count:
        """The number of legal points; its error is 0 where every sketch was counted exactly."""
        passes = math.prod(len(v) for v in self.pass_variants)
        counts = [solver.count() for solver in self._solvers]
        points = sum(c.points for c in counts)
        error = math.hypot(*(c.points * c.relative_error for c in counts if c.relative_error)) / max(points, 1)
        return Count(points * passes, error)

    @functools.cached_property
    def _solvers(self) -> tuple[Solver | GpuSolver, ...]:
        return tuple(GpuSolver(s.knobs, s.gpu) if s.gpu else Solver(s.knobs, s.limits) for s in self.sketches)

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
        """Whether the candidate satisfies every limit that is known without TVM."""
        if candidate.is_default:
            return True
        return self._solvers[candidate.sketch].satisfied(candidate.decisions)

    # --- moves ----------------------------------------------------------------------------------

    def default(self) -> Candidate:
        """The untuned program."""
        return Candidate(DEFAULT_SKETCH)

    def sample(self, rng: np.random.Generator, vary_passes: float = 0.3) -> Candidate:
        """A random legal candidate: a uniformly drawn sketch that has one, then uniform among its legal decisions.

        On a GPU, candidates that the analytical model prunes are less likely. With probability `vary_passes` a pass is
        drawn from all its settings, else it keeps the first.
        """
        drawn = None
        for sketch in rng.permutation(len(self.sketches)):
            drawn = self._draw(int(sketch), rng)
            if drawn is not None:
                break
        if drawn is None:
            return self.default()
        passes = [int(rng.integers(len(v))) if rng.random() < vary_passes else 0 for v in self.pass_variants]
        return self.from_indices(int(sketch), (*drawn, *passes))

    def sample_sketch(self, sketch: int, rng: np.random.Generator) -> Candidate | None:
        """A random legal candidate of one sketch, each pass at its first setting; None where it has none."""
        drawn = self._solvers[sketch].draw(rng)
        return None if drawn is None else self.from_indices(sketch, (*drawn, *(0 for _ in self.pass_names)))

    def _draw(self, sketch: int, rng: np.random.Generator) -> tuple[int, ...] | None:
        """Indices of a legal set of decisions. Up to four sets that the analytical model prunes are drawn again."""
        drawn = self._solvers[sketch].draw(rng)
        for _ in range(4):
            if drawn is None or self.sketches[sketch].gpu is None:
                break
            knobs = self.sketches[sketch].knobs
            decisions = tuple(k.choices[i] for k, i in zip(knobs, drawn, strict=True))
            if not self._ranked_draws.prunes(self.sketches[sketch], decisions):
                break
            drawn = self._solvers[sketch].draw(rng)
        return drawn

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
                near = self._near(candidate.sketch, i, indices[i]) if rng.random() < 0.5 else range(sizes[i])
                indices[i] = int(rng.choice(near))
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
        base = self.to_indices(candidate)
        for i, here in enumerate(base):
            for there in self._near(candidate.sketch, i, here):
                moved = self.from_indices(candidate.sketch, (*base[:i], there, *base[i + 1 :]))
                if self.legal(moved):
                    yield moved

    def _near(self, sketch: int, coordinate: int, index: int) -> list[int]:
        """The indices one step away along a coordinate."""
        knobs = self.sketches[sketch].knobs
        if coordinate < len(knobs):
            knob = knobs[coordinate]
            return [knob.index[c] for c in knob.neighbours(knob.choices[index])]
        return [i for i in (index - 1, index + 1) if 0 <= i < len(self.pass_variants[coordinate - len(knobs)])]

    # --- numbers ----------------------------------------------------------------------------------

    def encode(self, candidate: Candidate) -> NDArray[np.float32]:
        """A candidate as numbers [ENCODING_LENGTH] that mean the same for every workload; see ENCODING_COLUMNS."""
        return encode(candidate, None if candidate.is_default else self.sketches[candidate.sketch])

    def encodings(self, candidates: Sequence[Candidate]) -> NDArray[np.float32]:
        """The encoding of each candidate [n, ENCODING_LENGTH]."""
        return np.stack([self.encode(c) for c in candidates])

    def estimate(self, candidate: Candidate) -> Estimate | None:
        """What the analytical model says of a tiled GPU candidate; None for others."""
        model = None if candidate.is_default else self.sketches[candidate.sketch].gpu
        return None if model is None else predict(model, candidate.decisions, candidate.passes)

    # --- lists ------------------------------------------------------------------------------------

    def points(self) -> list[Candidate] | None:
        """All legal candidates of a space that is small enough to be listed; else None."""
        if self.size() > _FEW_POINTS:
            return None
        every = (
            self.from_indices(s.number, i)
            for s in self.sketches
            for i in itertools.product(*map(range, self.sizes(s.number)))
        )
        return [c for c in every if self.legal(c)]

    def initial_candidates(self, limit: int = 24) -> list[Candidate]:
        """Candidates to try before anything is measured, the most promising first; each pass at its first setting.

        On a GPU by the analytical model, with `stream_k` where it predicts a win; otherwise by rules of thumb.
        """
        tiled = self._ranked_draws.first(limit)
        rest = heuristic_candidates([s for s in self.sketches if s.gpu is None], self.vector_lanes)
        passes = functools.reduce(PassConfig.replace, (variants[0] for variants in self.pass_variants), PassConfig())
        return [
            dataclasses.replace(candidate, passes=_with_predicted(passes, candidate))
            for candidate in [*tiled, *rest][:limit]
        ]

    @functools.cached_property
    def _ranked_draws(self) -> RankedDraws:
        return ranked_draws(self.sketches, self.pass_names)

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
                    "limits": [dataclasses.asdict(limit) for limit in s.limits],
                    "rule": s.rule,
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
            model = GpuModel.from_json(s["gpu"]) if s["gpu"] else None
            limits = tuple(map(Limit.from_json, s["limits"]))
            sketches.append(Sketch(number, s["trace"], knobs, limits, s["rule"], model))
        return DesignSpace(data["target_kind"], tuple(sketches), tuple(data["pass_names"]), data["vector_lanes"])


def _with_predicted(passes: PassConfig, candidate: Candidate) -> PassConfig:
    """A configuration with the candidate's own setting of what the analytical model decides."""
    return next((passes.replace(s) for s in candidate.passes.settings if isinstance(s, StreamK)), passes)
