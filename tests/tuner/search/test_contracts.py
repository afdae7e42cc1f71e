"""Featurizers of the search in the suite that every featurizer passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.space import Candidate
from tests.contracts.featurizer import FeaturizerContract
from tests.contracts.strategy import EncodingFeaturizer
from tests.null_device import space_of
from tuner.protocols import Featurizer
from tuner.search.ranker import FeatureCache

SPACE = space_of()
UNSCHEDULABLE = Candidate(0, (0, 0, 0))


class TestEncodings(FeaturizerContract):
    """The featurizer that tests of strategies use."""

    @pytest.fixture
    def featurizer(self) -> Featurizer:
        return EncodingFeaturizer(SPACE)

    @pytest.fixture
    def candidates(self) -> list[Candidate]:
        return [Candidate(0, (1, 2, 3)), SPACE.default(), Candidate(0, (5, 5, 5)), Candidate(0, (0, 0, 1))]


class SomeUnschedulable(EncodingFeaturizer):
    """Encodings, save for one candidate."""

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        encodings = super().vectors(candidates)
        return [None if c == UNSCHEDULABLE else v for c, v in zip(candidates, encodings, strict=True)]


class TestCache(TestEncodings):
    @pytest.fixture
    def featurizer(self) -> Featurizer:
        return FeatureCache(SomeUnschedulable(SPACE))

    @pytest.fixture
    def unschedulable(self) -> list[Candidate]:
        return [UNSCHEDULABLE]


class TestCacheThatKnowsSome(TestCache):
    """One is stored with its record, one was asked for before."""

    @pytest.fixture
    def featurizer(self, candidates: list[Candidate]) -> Featurizer:
        cache = FeatureCache(SomeUnschedulable(SPACE))
        cache.put(candidates[0], SPACE.encode(candidates[0]))
        cache.vectors([candidates[1], UNSCHEDULABLE])
        return cache
