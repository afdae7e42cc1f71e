"""A prior mean for a recorded space, learned from recordings of the same kernel on other devices."""

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
from tuner.simulate.recording import SpaceRecording
from tuner.simulate.space import RecordedSpace


def with_learned_prior(space: RecordedSpace, earlier: Sequence[SpaceRecording], seed: int) -> RecordedSpace:
    """The space with a prior mean: a cost model of `earlier` recordings, in deviations from its mean over the space.

    Raises UserError for a recording of other parameters.
    """
    vectors, outcomes, groups = [], [], []
    for group, recording in enumerate(earlier):
        if recording.values != space.values:
            raise UserError(f"{recording.name}: other parameters than the space to be searched", "leave it out")
        vectors.append(RecordedSpace.of(recording.values, recording.choices).all_encodings)
        outcomes += [FAILURE if math.isnan(s) else CandidateOutcome(seconds=float(s)) for s in recording.seconds]
        groups.append(np.full(len(recording), group))
    model = XgbRanker(SCHEMA, seed=seed, rounds=300, depth=8)
    model.fit(np.concatenate(vectors), outcomes, np.concatenate(groups))
    scores = model.predict(space.all_encodings)
    middle, deviation = float(scores.mean()), max(float(scores.std()), 1e-6)

    def prior_mean(encodings: NDArray[np.float32]) -> NDArray[np.float64]:
        return (middle - model.predict(encodings).astype(np.float64)) / deviation

    return dataclasses.replace(space, learned=prior_mean)
