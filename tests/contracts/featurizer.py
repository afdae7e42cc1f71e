"""What every Featurizer promises. A test module subclasses the suite and gives it a featurizer and candidates."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.space import Candidate
from tuner.protocols import Featurizer


class FeaturizerContract:
    """Fixtures: a `featurizer`, fresh for each test; three or more different `candidates` that can be scheduled, and
    those `unschedulable` that cannot."""

    @pytest.fixture
    def featurizer(self) -> Featurizer:
        raise NotImplementedError("the implementation's test module provides the featurizer")

    @pytest.fixture
    def candidates(self) -> list[Candidate]:
        raise NotImplementedError("the implementation's test module provides candidates")

    @pytest.fixture
    def unschedulable(self) -> list[Candidate]:
        return []

    def test_one_vector_of_fixed_length_a_candidate(self, featurizer: Featurizer, candidates: list[Candidate]) -> None:
        vectors = featurizer.vectors(candidates)
        assert len(vectors) == len(candidates) >= 3
        assert {(v.dtype, v.ndim) for v in vectors if v is not None} == {(np.dtype(np.float32), 1)}
        assert len({v.shape for v in vectors if v is not None}) == 1
        assert len({v.tobytes() for v in vectors if v is not None}) == len(candidates)

    def test_a_vector_does_not_depend_on_what_else_is_asked_for(
        self, featurizer: Featurizer, candidates: list[Candidate]
    ) -> None:
        first, *_, last = candidates
        together = featurizer.vectors([last, *candidates, last])
        alone = featurizer.vectors([first])
        assert np.array_equal(together[1], alone[0])  # type: ignore[arg-type]
        assert np.array_equal(together[0], together[-1])  # type: ignore[arg-type]
        assert np.array_equal(together[0], together[-2])  # type: ignore[arg-type]

    def test_what_cannot_be_scheduled_has_none(
        self, featurizer: Featurizer, candidates: list[Candidate], unschedulable: list[Candidate]
    ) -> None:
        vectors = featurizer.vectors([*unschedulable, *candidates])
        assert [v is None for v in vectors] == [True] * len(unschedulable) + [False] * len(candidates)

    def test_nothing_for_nothing(self, featurizer: Featurizer) -> None:
        assert featurizer.vectors([]) == []
