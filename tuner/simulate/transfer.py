"""What recordings of the same kernel on other devices say of a space, before anything is measured in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from costmodel.dataset import FAILURE, CandidateOutcome
from costmodel.xgb import XgbRanker
from tuner.errors import UserError
from tuner.simulate.device import SCHEMA
from tuner.simulate.recording import Recording
from tuner.simulate.space import RecordedSpace


def with_learned_prior(space: RecordedSpace, earlier: Sequence[Recording], seed: int) -> RecordedSpace:
    """The space with a model of what was recorded elsewhere as its prior mean: in deviations from the mean over it.

    Raises UserError for a recording of other parameters.
    """
    vectors, outcomes, groups = [], [], []
    for group, recording in enumerate(earlier):
        if recording.values != space.values:
            raise UserError(f"{recording.name}: other parameters than the space to be searched", "leave it out")
        vectors.append(RecordedSpace.of(recording.values, recording.choices).rows)
        outcomes += [FAILURE if math.isnan(s) else CandidateOutcome(seconds=float(s)) for s in recording.seconds]
        groups.append(np.full(len(recording), group))
    model = XgbRanker(SCHEMA, seed=seed, rounds=300, depth=8)
    model.fit(np.concatenate(vectors), outcomes, np.concatenate(groups))
    scores = model.predict(space.rows)
    middle, deviation = float(scores.mean()), max(float(scores.std()), 1e-6)

    def prior_mean(some: NDArray[np.float32]) -> NDArray[np.float64]:
        return (middle - model.predict(some).astype(np.float64)) / deviation

    return dataclasses.replace(space, learned=prior_mean)
