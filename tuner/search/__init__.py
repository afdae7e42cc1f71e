"""Search strategies by name. What a strategy needs is imported when it is made: Optuna, XGBoost, TVM's tuning parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.errors import UserError
from tuner.protocols import Strategy, Task

if TYPE_CHECKING:
    from kernels.space import DesignSpace
    from tuner.search.ranker import FeatureCache, TaskRanker
    from tuner.search.surrogate import PriorMean, Settings
    from tuner.search.winners import TaskWinners


@dataclass(frozen=True)
class Problem:
    """All that a strategy may be made of. `task` is None only for a space without programs, such as a recording.

    Only `guided` uses the features, the ranker, the winners of other tasks, the settings of its surrogate (None: the
    default ones) and the prior mean of the log seconds; only `metaschedule` uses the task.
    """

    space: DesignSpace
    features: FeatureCache
    ranker: TaskRanker
    seed: int
    task: Task | None = None
    winners: TaskWinners | None = None
    settings: Settings | None = None
    prior_mean: PriorMean | None = None


Factory = Callable[[Problem], Strategy]


def _sampler(name: str) -> Factory:
    def make(problem: Problem) -> Strategy:
        from tuner.search.optuna import OptunaStrategy

        return OptunaStrategy(problem.space, name, problem.seed)

    return make


def _random(problem: Problem) -> Strategy:
    from tuner.search.random import RandomStrategy

    return RandomStrategy(problem.space, problem.seed)


def _grid(problem: Problem) -> Strategy:
    from tuner.search.grid import GridStrategy

    return GridStrategy(problem.space, problem.seed)


def _metaschedule(problem: Problem) -> Strategy:
    from tuner.search.metaschedule import MetaScheduleStrategy

    if problem.task is None:
        raise UserError(
            "the strategy metaschedule searches programs, and a recorded space has none", "choose another strategy"
        )
    return MetaScheduleStrategy(problem.space, problem.task, problem.seed)


def _guided(problem: Problem) -> Strategy:
    from costmodel.xgb import XgbRanker
    from tuner.search.guided import GuidedStrategy
    from tuner.search.optuna import OptunaStrategy
    from tuner.search.ranker import Ranker
    from tuner.search.surrogate import DEFAULT

    # of this task alone: what an encoding is worth depends on the workload, which it does not contain
    screen = Ranker(XgbRanker("encoding", problem.seed)).task("")
    return GuidedStrategy(
        problem.space,
        problem.features,
        problem.ranker,
        screen,
        OptunaStrategy(problem.space, "tpe", problem.seed),
        problem.seed,
        settings=problem.settings or DEFAULT,
        prior_mean=problem.prior_mean,
        winners=problem.winners,
    )


def transfer_settings() -> Settings:
    """Settings for a prior mean that was learned from the same kernel elsewhere: trusted from the first trial on."""
    from costmodel.gp import Prior
    from tuner.search.surrogate import Settings

    return Settings(first=0, prior=Prior(signal=0.1))


STRATEGIES: Mapping[str, Factory] = {
    "guided": _guided,
    "tpe": _sampler("tpe"),
    "cmaes": _sampler("cmaes"),
    "gp": _sampler("gp"),
    "qmc": _sampler("qmc"),
    "random": _random,
    "grid": _grid,
    "metaschedule": _metaschedule,
}


def create(name: str, problem: Problem) -> Strategy:
    """A fresh strategy for one task.

    Raises KeyError for a name that is not in STRATEGIES, UserError for `metaschedule` without a task.
    """
    return STRATEGIES[name](problem)
