"""First guesses on a GPU: what the static judge likes best among solved candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.roofline import HOPELESS
from kernels.space.data import Candidate, Sketch
from kernels.space.decision import Decision
from kernels.space.gpu_solve import GpuSolver
from kernels.space.gpu_work import judge

_DRAWS = 96
"""Candidates of each sketch that are judged: about 0.15 s."""


@dataclass(frozen=True)
class Predicted:
    """Solved candidates of all tiled sketches, the most promising first, each with its estimated seconds."""

    ranked: tuple[tuple[float, Candidate], ...]

    @property
    def best(self) -> float:
        return self.ranked[0][0] if self.ranked else math.inf

    def seeds(self, limit: int) -> list[Candidate]:
        """The best, at most half of them from one sketch: the judge may be wrong about a whole sketch."""
        taken: dict[int, int] = {}
        found = []
        for _, candidate in self.ranked:
            if taken.get(candidate.sketch, 0) < max(limit // 2, 1):
                taken[candidate.sketch] = taken.get(candidate.sketch, 0) + 1
                found.append(candidate)
        return found[:limit]

    def hopeless(self, sketch: Sketch, decisions: Sequence[Decision]) -> bool:
        """Whether a candidate is estimated so much slower than the best that it is not worth a build."""
        return sketch.gpu is not None and not judge(sketch.gpu, decisions).seconds < HOPELESS * self.best


def predicted(sketches: Sequence[Sketch]) -> Predicted:
    """Draw and judge; the same in every process."""
    rng = np.random.default_rng(0)
    found: dict[Candidate, float] = {}
    for sketch in sketches:
        if sketch.gpu is None:
            continue
        solver = GpuSolver(sketch.knobs, sketch.gpu)
        for _ in range(_DRAWS):
            drawn = solver.draw(rng)
            if drawn is not None:
                decisions = tuple(k.choices[i] for k, i in zip(sketch.knobs, drawn, strict=True))
                found[Candidate(sketch.number, decisions)] = judge(sketch.gpu, decisions).seconds
    return Predicted(tuple(sorted(((seconds, c) for c, seconds in found.items()), key=lambda item: item[0])))
