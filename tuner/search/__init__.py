"""Search strategies by name. Optuna and XGBoost are imported when a strategy that needs them is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tuner.protocols import Strategy

if TYPE_CHECKING:
    from kernels.space import DesignSpace
    from tuner.search.ranker import FeatureCache, TaskRanker

    Factory = Callable[[DesignSpace, FeatureCache, TaskRanker, int], Strategy]


def _random(space: DesignSpace, features: FeatureCache, ranker: TaskRanker, seed: int) -> Strategy:
    from tuner.search.random import RandomStrategy

    return RandomStrategy(space, seed)


def _sampler(name: str) -> Factory:
    def make(space: DesignSpace, features: FeatureCache, ranker: TaskRanker, seed: int) -> Strategy:
        from tuner.search.optuna import OptunaStrategy

        return OptunaStrategy(space, name, seed)

    return make


def _guided(space: DesignSpace, features: FeatureCache, ranker: TaskRanker, seed: int) -> Strategy:
    from tuner.search.guided import GuidedStrategy
    from tuner.search.optuna import OptunaStrategy

    return GuidedStrategy(space, features, ranker, OptunaStrategy(space, "tpe", seed), seed)


STRATEGIES: Mapping[str, Factory] = {
    "guided": _guided,
    "tpe": _sampler("tpe"),
    "cmaes": _sampler("cmaes"),
    "gp": _sampler("gp"),
    "qmc": _sampler("qmc"),
    "random": _random,
}


def create(name: str, space: DesignSpace, features: FeatureCache, ranker: TaskRanker, seed: int) -> Strategy:
    """A fresh strategy for one task. Raises KeyError for a name that is not in STRATEGIES.

    Only `guided` uses the features and the ranker; the others are given them and leave them alone.
    """
    return STRATEGIES[name](space, features, ranker, seed)
