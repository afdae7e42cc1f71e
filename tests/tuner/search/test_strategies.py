"""Every strategy of the table keeps the contract, and those that learn beat those that do not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import pytest

from costmodel.base import ConstantModel
from costmodel.xgb import XgbRanker
from kernels.space import DesignSpace
from tests.contracts.strategy import EncodingFeaturizer, StrategyContract, drive, synthetic_seconds, timed
from tuner.errors import UserError
from tuner.protocols import Strategy, Task
from tuner.search import STRATEGIES, Problem, create
from tuner.search.metaschedule import EvolutionSettings, MetaScheduleStrategy
from tuner.search.ranker import FeatureCache, Ranker

QUICK = EvolutionSettings(population=64, batch=16)
"""A tenth of the time of TVM's own settings, and several rounds in what a test asks for."""


def make(name: str, space: DesignSpace, seed: int, task: Task | None = None) -> Strategy:
    ranker = Ranker(XgbRanker("encoding/1", seed=seed))
    problem = Problem(space, FeatureCache(EncodingFeaturizer(space)), ranker.task("a task"), seed, task)
    return create(name, problem)


@pytest.mark.parametrize("name", STRATEGIES)
class TestStrategies(StrategyContract):
    name = ""
    task: Task
    tasks: Mapping[int, Task]

    @pytest.fixture(autouse=True)
    def _named(self, name: str, task: Task, small_space: DesignSpace, small_task: Task) -> None:
        self.name = name
        self.tasks = {id(small_space): small_task}
        self.task = task
        self.batches = {"gp": 3, "metaschedule": 4}.get(name, 6)  # these take a tenth of a second a trial and more

    def make(self, space: DesignSpace, seed: int) -> Strategy:
        if self.name == "metaschedule":
            return MetaScheduleStrategy(space, self.tasks.get(id(space), self.task), seed, QUICK)
        return make(self.name, space, seed, self.tasks.get(id(space), self.task))


def test_guided_without_knowledge_keeps_the_contract(space: DesignSpace, task: Task) -> None:
    ranker = Ranker(ConstantModel()).task("a task")
    strategy = create("guided", Problem(space, FeatureCache(EncodingFeaturizer(space)), ranker, 1, task))
    proposals = drive(strategy, space, batches=6)
    assert len({p.candidate for p in proposals}) == 48
    # its later batches are the proposers' mixture
    assert {"mutate", "tpe", "random"} <= {p.proposer for p in proposals[24:]}


def test_unknown_name(space: DesignSpace) -> None:
    with pytest.raises(KeyError):
        make("magic", space, 1)


def test_metaschedule_wants_a_program(space: DesignSpace) -> None:
    with pytest.raises(UserError, match="searches programs"):
        make("metaschedule", space, 1)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["guided", "tpe"])
def test_learning_beats_luck(name: str, seed: int, space: DesignSpace, task: Task) -> None:
    learned, lucky = (proposed_seconds(n, space, seed, task) for n in (name, "random"))
    # The best of each is a matter of luck on one seed; what is proposed in the end is not.
    assert statistics.median(learned[-32:]) < 0.75 * statistics.median(lucky)


def proposed_seconds(name: str, space: DesignSpace, seed: int, task: Task) -> list[float]:
    strategy = make(name, space, seed, task)
    seconds = []
    for _ in range(8):
        for proposal in strategy.ask(16):
            seconds.append(synthetic_seconds(space, proposal.candidate))
            strategy.tell(proposal.candidate, timed(space, proposal.candidate))
    return seconds
