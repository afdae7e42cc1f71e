"""The models that are compared, as cost models of the feature vectors of this program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.base import ConstantModel, CostModel
from costmodel.dataset import CandidateOutcome
from costmodel.xgb import XgbRanker
from kernels.features import COLUMNS, ENCODING, SCHEMA
from tuner.search.surrogate import Surrogate

Features = NDArray[np.float32]


class Surrogates(ConstantModel):
    """The Gaussian processes that screen proposals, on the encodings alone."""

    def fit(
        self,
        features: Features,
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: Features | None = None,
    ) -> None:
        self._model = Surrogate(features[:, ENCODING], np.random.default_rng(0))
        for encoding, outcome in zip(features[:, ENCODING], outcomes, strict=True):
            self._model.add(encoding, outcome)

    def predict(self, features: Features) -> Features:
        self._model.look_at(features[:, ENCODING])
        _, mean = self._model.predict()
        return -mean.astype(np.float32)


class Nearest(ConstantModel):
    """The score of the nearest candidate, with each column in units of its range."""

    def fit(
        self,
        features: Features,
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: Features | None = None,
    ) -> None:
        timed = [i for i, outcome in enumerate(outcomes) if outcome.seconds]
        self._span = np.maximum(np.ptp(features, axis=0), 1e-6)
        self._known = features[timed] / self._span
        self._scores = -np.log([outcomes[i].seconds or 1.0 for i in timed]).astype(np.float32)

    def predict(self, features: Features) -> Features:
        distance = ((features[:, None] / self._span - self._known[None]) ** 2).sum(axis=2)
        nearest: Features = self._scores[distance.argmin(axis=1)]
        return nearest


class OnEncodings(ConstantModel):
    """The trees, on the encodings alone."""

    def __init__(self) -> None:
        self._model = XgbRanker("encoding")

    def fit(
        self,
        features: Features,
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: Features | None = None,
    ) -> None:
        self._model.fit(features[:, ENCODING], outcomes, groups)

    def predict(self, features: Features) -> Features:
        return self._model.predict(features[:, ENCODING])


class Analytical(ConstantModel):
    """No learning: arithmetic over the peak of vectors and cores, or cache lines over a bandwidth, whichever is more.

    From TVM's per-store features of the store that is largest in each, log2 of counts: 16 kinds of arithmetic, then
    vectorized, unrolled and parallel loops (11 columns each), 8 of GPUs, then five buffers of 18 columns.
    """

    _CORES, _LANES, _LINES_PER_S, _OPS_PER_S = 2.0, 16.0, 2e8, 3e9
    _CALL = 20.0  # operations that an elementary function takes

    def predict(self, features: Features) -> Features:
        counts = 2.0 ** features.astype(np.float64) - 1.0
        work = counts[:, :5].sum(axis=1) + self._CALL * counts[:, 5]
        vector, parallel = counts[:, 16 + 2], counts[:, 16 + 22 + 1]
        speed = np.clip(vector, 1, self._LANES) * np.clip(parallel, 1, self._CORES)
        lines = sum(counts[:, 57 + 18 * buffer + 15] for buffer in range(5))
        seconds = np.maximum(work / speed / self._OPS_PER_S, lines / self._LINES_PER_S)
        scores: Features = -np.log(np.maximum(seconds, 1e-12)).astype(np.float32)
        return scores


Live = Mapping[bytes, tuple[Any, Any]]
"""TVM's tuning context and measure candidate, by the bytes of the feature vector."""


class TvmModel(ConstantModel):
    """MetaSchedule's own XGBModel, which takes live schedules."""

    def __init__(self, live: Live) -> None:
        from kernels.metaschedule import meta_schedule

        self._ms = meta_schedule()
        self._live = live
        self._model = self._ms.cost_model.XGBModel(num_warmup_samples=0, num_tuning_cores=1)

    def fit(
        self,
        features: Features,
        outcomes: Sequence[CandidateOutcome],
        groups: NDArray[np.int64],
        weights: Features | None = None,
    ) -> None:
        for group in np.unique(groups):
            chosen = [int(i) for i in np.flatnonzero(groups == group) if features[i].tobytes() in self._live]
            if not chosen:
                continue
            known = [self._live[features[i].tobytes()] for i in chosen]
            # What failed, or was given up, has no time: TVM's runner then returns 1e10 s.
            seconds = [[outcomes[i].seconds or 1e10] for i in chosen]
            results = [self._ms.runner.RunnerResult(s, None) for s in seconds]
            self._model.update(known[0][0], [candidate for _, candidate in known], results)

    def predict(self, features: Features) -> Features:
        known = [self._live[vector.tobytes()] for vector in features]
        scores = self._model.predict(known[0][0], [candidate for _, candidate in known])
        return np.asarray(scores, dtype=np.float32)


def trees() -> XgbRanker:
    """The trees, on everything: the model of the search."""
    return XgbRanker(SCHEMA, columns=COLUMNS)


MODELS: dict[str, Callable[[], CostModel]] = {
    "constant": ConstantModel,
    "static, analytical": Analytical,
    "nearest neighbour": Nearest,
    "trees, encoding": OnEncodings,
    "Gaussian processes, encoding": Surrogates,
    "trees, program": trees,
}
TVM_MODEL = "TVM's XGBModel"

OF_ONE_TASK = ("nearest neighbour", "Gaussian processes, encoding")
"""These say nothing of a task from other tasks."""
