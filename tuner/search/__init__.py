"""Search strategies by name. Optuna and XGBoost are imported when a strategy that needs them is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tuner.protocols import Strategy

if TYPE_CHECKING:
    from kernels.space import DesignSpace
    from tuner.search.ranker import FeatureCache, TaskRanker
    from tuner.search.surrogate import Belief, Settings

    Factory = Callable[[DesignSpace, FeatureCache, TaskRanker, int], Strategy]


def _random(space: DesignSpace, features: FeatureCache, ranker: TaskRanker, seed: int) -> Strategy:
    from tuner.search.random import RandomStrategy

    return RandomStrategy(space, seed)


def _sampler(name: str) -> Factory:
    def make(space: DesignSpace, features: FeatureCache, ranker: TaskRanker, seed: int) -> Strategy:
        from tuner.search.optuna import OptunaStrategy

        return OptunaStrategy(space, name, seed)

    return make


def create_guided(
    space: DesignSpace,
    features: FeatureCache,
    ranker: TaskRanker,
    seed: int,
    settings: Settings | None = None,
    belief: Belief | None = None,
) -> Strategy:
    """The strategy of the main job. `belief` is what is thought of encodings before anything is measured."""
    from costmodel.xgb import XgbRanker
    from tuner.search.guided import GuidedStrategy
    from tuner.search.optuna import OptunaStrategy
    from tuner.search.ranker import Ranker
    from tuner.search.surrogate import DEFAULT

    # of this task alone: what an encoding is worth depends on the workload, which it does not contain
    screen = Ranker(XgbRanker("encoding", seed)).task("")
    inner = OptunaStrategy(space, "tpe", seed)
    return GuidedStrategy(space, features, ranker, screen, inner, seed, settings=settings or DEFAULT, belief=belief)


def warm() -> Settings:
    """Settings for a belief that was learned from the same kernel elsewhere: it is trusted from the first trial on."""
    from costmodel.gp import Prior
    from tuner.search.surrogate import Settings

    return Settings(first=0, prior=Prior(signal=0.1))


STRATEGIES: Mapping[str, Factory] = {
    "guided": create_guided,
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
