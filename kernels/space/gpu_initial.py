"""Initial candidates on a GPU: the best of many legal draws by the analytical model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.passes import PassConfig
from kernels.passes.stream_k import StreamK
from kernels.roofline import PRUNING_RATIO
from kernels.space.data import Candidate, Sketch
from kernels.space.decision import Decision
from kernels.space.gpu_solve import GpuSolver
from kernels.space.gpu_work import evenly, predict

_DRAWS = 96
"""Draws of each sketch: about 0.15 s."""


@dataclass(frozen=True)
class RankedDraws:
    """Legal draws of all tiled sketches with their predicted seconds, the fastest first; with `stream_k` where that is
    predicted to win."""

    ranked: tuple[tuple[float, Candidate], ...]

    @property
    def best_s(self) -> float:
        return self.ranked[0][0] if self.ranked else math.inf

    def first(self, limit: int) -> list[Candidate]:
        """The fastest by prediction, at most half of one sketch: predictions may be wrong for a whole sketch."""
        of_sketch: Counter[int] = Counter()
        chosen = []
        for _, candidate in self.ranked:
            if of_sketch[candidate.sketch] < max(limit // 2, 1):
                of_sketch[candidate.sketch] += 1
                chosen.append(candidate)
        return chosen[:limit]

    def prunes(self, sketch: Sketch, decisions: Sequence[Decision]) -> bool:
        """Whether a candidate is predicted to be so much slower than the best that it is not worth a build."""
        return sketch.gpu is not None and not predict(sketch.gpu, decisions).seconds < PRUNING_RATIO * self.best_s


def ranked_draws(sketches: Sequence[Sketch], pass_names: Sequence[str] = ()) -> RankedDraws:
    """Draw and predict with a fixed seed: the same in every process. `pass_names`: the passes that are searched."""
    rng = np.random.default_rng(0)
    predictions: dict[Candidate, float] = {}
    for sketch in sketches:
        if sketch.gpu is None:
            continue
        solver = GpuSolver(sketch.knobs, sketch.gpu)
        for _ in range(_DRAWS):
            drawn = solver.draw(rng)
            if drawn is not None:
                decisions = tuple(k.choices[i] for k, i in zip(sketch.knobs, drawn, strict=True))
                searched = StreamK.name in pass_names
                setting, seconds = evenly(sketch.gpu, decisions, StreamK.variants("cuda") if searched else (StreamK(),))
                predictions[Candidate(sketch.number, decisions, PassConfig().replace(setting))] = seconds
    by_seconds = sorted(((seconds, c) for c, seconds in predictions.items()), key=lambda item: item[0])
    return RankedDraws(tuple(by_seconds))
