"""Sessions: for each task its space, what is known of it, its feature vectors, and the strategy that searches it.

The only place that makes strategies, rankers and features.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.xgb import XgbRanker
from kernels.space import Candidate
from tuner import search
from tuner.protocols import Builder, RecordStore, Strategy, Task, TuningDevice
from tuner.search.ranker import MAX_EARLIER, FeatureCache, Ranker
from tuner.search.surrogate import Settings as StrategySettings
from tuner.search.winners import Winners
from tuner.tuning.context import SearchContext
from tuner.tuning.earlier import earlier, note_winners
from tuner.tuning.known import KnownTask
from tuner.tuning.ledger import Ledger
from tuner.tuning.session import TaskSession


@dataclass(frozen=True)
class BuilderFeatures:
    """The builder's feature vectors for one task. Implements `protocols.Featurizer`."""

    builder: Builder
    task: Task

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return self.builder.features(self.task, candidates)


class Searcher:
    """Makes the sessions of one search on one device. They share a cost model, the winners and a ledger.

    `strategy_settings` are those of `guided`; None: those of the main job.
    """

    def __init__(
        self,
        device: TuningDevice,
        store: RecordStore,
        context: SearchContext,
        strategy_settings: StrategySettings | None = None,
    ) -> None:
        self.device = device
        self._builder = device.builder
        self._store = store
        self.context = context
        self._strategy_settings = strategy_settings
        seed = context.search.seed
        self._ranker = Ranker(XgbRanker(self._builder.schema, seed=seed))
        self._winners = Winners()
        self.ledger = Ledger(
            store, context.run_id, context.scope, seed,
            numbered=max((record.trial for record in store.read(run_id=context.run_id)), default=0),
            environment=context.environment, commit=context.commit, columns=self._builder.columns,
        )  # fmt: skip
        self._references = context.folder / "references"
        self._references.mkdir(parents=True, exist_ok=True)

    def learn_from_earlier_runs(self, tasks: Collection[str], ended: Collection[str]) -> None:
        """Teach what earlier runs measured of other tasks, and the cost model also of these on other devices."""
        scope = self.context.scope
        for key, vector, outcome in earlier(self._store, self._builder.columns, scope, tasks)[-MAX_EARLIER:]:
            self._ranker.remember(key, vector, outcome)
        note_winners(self._winners, self._store, scope, tasks, ended)

    def known(self, task: Task) -> KnownTask:
        """What is stored of a task that this search can use."""
        known = KnownTask(self._builder.space(task, self.context.pass_names))
        # A fresh start knows nothing of other runs; resumed, it knows of its own earlier attempt.
        own = None if self.context.search.reuse else self.ledger.run_id
        for record in self._store.read(scope=self.ledger.scope, task_key=task.key, run_id=own):
            if self.context.usable(record):
                known.add(record, self._builder.columns)
        return known

    def start(self, task: Task) -> TaskSession:
        """A session that knows what is stored of a task."""
        return self.session(task, self.known(task))

    def session(self, task: Task, known: KnownTask, interrupted_runs: Collection[str] = ()) -> TaskSession:
        """A session that knows what is stored; what interrupted runs measured it will replay."""
        strategy, features = self.strategy(task, known)
        measured, interrupted = known.apart(interrupted_runs)
        return TaskSession(
            task, known.space, strategy, features, self.device, self.ledger, self.context.settings, self._references,
            measured, interrupted, self.context.total.limited, known.reached,
        )  # fmt: skip

    def strategy(self, task: Task, known: KnownTask) -> tuple[Strategy, FeatureCache]:
        """What proposes candidates of a task, and the feature vectors that it shares with the session."""
        features = FeatureCache(BuilderFeatures(self._builder, task))
        for candidate, vector in known.vectors.items():
            features.put(candidate, vector)
        problem = search.Problem(
            known.space, features, self._ranker.task(task.key), self.context.search.seed, task,
            self._winners.task(task.key), self._strategy_settings, known.space.prior_mean,
        )  # fmt: skip
        name = self.context.search.strategy if known.space.sketches else "random"  # which finds nothing to ask for
        return search.create(name, problem), features
