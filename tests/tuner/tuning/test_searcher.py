"""Sessions: what of a store they know, what they share, and the feature vectors of the builder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.space import Candidate, DesignSpace, Knob, Sketch
from tests.contracts.featurizer import FeaturizerContract
from tests.null_device import FASTEST_S, NullBuilder
from tests.tuner.tuning.on_null import BEST, UNTUNED, Loop, allowed, record_of, task_named, timed
from tuner import search
from tuner.protocols import Featurizer, Task
from tuner.records import Fidelity
from tuner.store import SqlStore
from tuner.tuning.phase import Pace
from tuner.tuning.searcher import BuilderFeatures, Searcher
from tuner.tuning.tune import tune_task

TASK, OTHER = task_named("one"), task_named("other")
UNSCHEDULABLE = Candidate(0, (0, 0, 0))


class SomeUnschedulable(NullBuilder):
    """One candidate cannot be scheduled."""

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        vectors = super().features(task, candidates)
        return [None if c == UNSCHEDULABLE else v for c, v in zip(candidates, vectors, strict=True)]


class TestBuilderFeatures(FeaturizerContract):
    @pytest.fixture
    def featurizer(self, tmp_path: Path) -> Featurizer:
        builder = SomeUnschedulable(tmp_path)
        builder.space(TASK, ())
        return BuilderFeatures(builder, TASK)

    @pytest.fixture
    def candidates(self) -> list[Candidate]:
        return [UNTUNED, Candidate(0, (1, 2, 3)), BEST]

    @pytest.fixture
    def unschedulable(self) -> list[Candidate]:
        return [UNSCHEDULABLE]


def searched(loop: Loop, task: Task = TASK, trials: int = 12) -> Searcher:
    searcher = loop.searcher()
    tune_task(task, searcher, allowed(searcher, trials), Pace(batch=4))
    return searcher


def test_a_session_knows_what_is_stored_of_its_task_in_its_scope(tmp_path: Path, store: SqlStore) -> None:
    known = record_of(TASK, BEST, timed(FASTEST_S))
    elsewhere = record_of(TASK, Candidate(0, (1, 1, 1)), timed(1.0), scope="another machine")
    of_another = record_of(OTHER, Candidate(0, (2, 2, 2)), timed(1.0))
    foreign = record_of(TASK, Candidate(0, (9, 9, 9)), timed(1e-9))
    store.append([known, elsewhere, of_another, foreign])
    session = Loop(tmp_path, store).searcher().start(TASK)
    assert list(session.screened) == [BEST]
    assert session.best == BEST


def test_without_reuse_a_resumed_run_still_knows_its_own(tmp_path: Path, store: SqlStore) -> None:
    searched(Loop(tmp_path, store))
    fresh = Loop(tmp_path, store, run_id="fresh", reuse=False).searcher().known(TASK)
    resumed = Loop(tmp_path, store, reuse=False).searcher().known(TASK)
    assert (fresh.trials, resumed.trials) == (0, 12)


def test_trials_are_numbered_on_where_a_run_is_resumed(tmp_path: Path, store: SqlStore) -> None:
    searched(Loop(tmp_path, store))
    loop = Loop(tmp_path, store)
    searched(loop, OTHER, trials=5)
    assert [r.trial for r in loop.records(Fidelity.SCREEN)] == list(range(1, 18))
    assert Loop(tmp_path, store, run_id="another").searcher().ledger.numbered == 0


def test_a_stored_feature_vector_is_not_computed_again(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    columns = loop.device.builder.columns
    vector = tuple(map(float, range(len(columns))))
    store.append([record_of(TASK, BEST, timed(FASTEST_S), features=vector, columns=columns)])
    searcher = loop.searcher()
    _, features = searcher.strategy(TASK, searcher.known(TASK))
    assert features.vectors([BEST])[0] == pytest.approx(vector)
    assert features.get(Candidate(0, (1, 1, 1))) is None


def test_what_one_task_finds_is_offered_to_the_next(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store, strategy="guided")
    searcher = loop.searcher()
    problems: list[search.Problem] = []
    with pytest.MonkeyPatch.context() as patch:
        made = search.STRATEGIES["guided"]

        def kept(problem: search.Problem) -> object:
            problems.append(problem)
            return made(problem)

        patch.setitem(search.STRATEGIES, "guided", kept)
        tune_task(TASK, searcher, allowed(searcher, 30), Pace(batch=10))
        searcher.start(OTHER)
    first, second = problems
    assert len(first.ranker) >= 20, "it learned of its own outcomes"
    assert len(second.ranker) == 0
    assert first.winners is not None and second.winners is not None
    first.winners.note(Candidate(0, ((2, 2),)), FASTEST_S / 2)
    tiled = DesignSpace("llvm", (Sketch(0, "", (Knob("spatial", ((1, 4), (2, 2), (4, 1)), 0),)),), ())
    assert list(second.winners.near(tiled)) == [Candidate(0, ((2, 2),))]
    assert list(first.winners.near(tiled)) == [], "its own is nothing new"
    assert (first.task, second.task, first.seed) == (TASK, OTHER, 0)


def test_earlier_runs_teach_the_cost_model_what_they_measured_of_other_tasks(tmp_path: Path, store: SqlStore) -> None:
    searched(Loop(tmp_path, store, strategy="guided"), OTHER, trials=40)
    loop = Loop(tmp_path, store, run_id="second")
    searcher = loop.searcher()
    searcher.learn_from_earlier_runs({TASK.key}, ended={"run"})
    with_features = [r for r in store.read() if r.features and r.measurement.fidelity is Fidelity.SCREEN]
    assert len(searcher._ranker) == len(with_features) > 0  # noqa: SLF001 - nobody else knows how much it was taught
    ignorant = loop.searcher()
    ignorant.learn_from_earlier_runs({OTHER.key}, ended={"run"})
    assert len(ignorant._ranker) == 0, "a task's own records are not earlier ones"  # noqa: SLF001


@pytest.mark.parametrize("strategy", ["random", "grid", "tpe", "guided"])
def test_the_strategy_is_the_one_that_was_asked_for(strategy: str, tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store, strategy=strategy)
    searched(loop, trials=10)
    proposers = {r.proposer for r in loop.records()} - {"default"}
    assert len(loop.records()) == 10
    assert proposers
    assert strategy == "guided" or proposers == {strategy}
