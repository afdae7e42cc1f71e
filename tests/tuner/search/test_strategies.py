"""Every strategy of the table keeps the contract, and those that learn beat those that do not."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from costmodel.base import ConstantModel
from costmodel.xgb import XgbRanker
from kernels.space import DesignSpace
from tuner.protocols import Strategy
from tuner.search import STRATEGIES, create
from tuner.search.ranker import FeatureCache, Ranker

from tests.contracts.strategy import EncodingFeaturizer, StrategyContract, drive, synthetic_seconds


def make(name: str, space: DesignSpace, seed: int) -> Strategy:
    ranker = Ranker(XgbRanker("encoding/1", seed=seed))
    return create(name, space, FeatureCache(EncodingFeaturizer(space)), ranker.task("a task"), seed)


def best_of(name: str, space: DesignSpace, seed: int, batches: int) -> float:
    return min(synthetic_seconds(space, p.candidate) for p in drive(make(name, space, seed), space, batches))


@pytest.mark.parametrize("name", STRATEGIES)
class TestStrategies(StrategyContract):
    name = ""

    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name

    def make(self, space: DesignSpace, seed: int) -> Strategy:
        return make(self.name, space, seed)


def test_guided_without_knowledge_keeps_the_contract(space: DesignSpace) -> None:
    ranker = Ranker(ConstantModel())
    strategy = create("guided", space, FeatureCache(EncodingFeaturizer(space)), ranker.task("a task"), 1)
    proposals = drive(strategy, space, batches=6)
    assert len({p.candidate for p in proposals}) == 48
    # its later batches are the proposers' mixture
    assert {"mutate", "crossover", "neighbour", "tpe", "random"} <= {p.proposer for p in proposals[24:]}


def test_unknown_name(space: DesignSpace) -> None:
    with pytest.raises(KeyError):
        make("magic", space, 1)


@pytest.mark.parametrize("name", ["guided", "tpe"])
def test_learning_beats_luck(name: str, space: DesignSpace) -> None:
    seeds = range(3)
    learned = statistics.median(best_of(name, space, seed, batches=12) for seed in seeds)
    lucky = statistics.median(best_of("random", space, seed, batches=12) for seed in seeds)
    assert learned < lucky


def test_what_one_task_learned_helps_the_next(space: DesignSpace) -> None:
    ranker = Ranker(XgbRanker("encoding/1"))
    features = FeatureCache(EncodingFeaturizer(space))
    drive(create("random", space, features, ranker.task("first"), 1), space, batches=1)
    rng = np.random.default_rng(0)
    from costmodel.dataset import Outcome

    for _ in range(200):
        candidate = space.sample(rng)
        ranker.task("first").add(space.encode(candidate), Outcome(seconds=synthetic_seconds(space, candidate)))
    tests = [space.sample(rng) for _ in range(100)]
    scores = ranker.task("second").predict(np.stack([space.encode(c) for c in tests]))
    from costmodel.metrics import rank_correlation

    assert rank_correlation(scores, [synthetic_seconds(space, c) for c in tests]) > 0.7
