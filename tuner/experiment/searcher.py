"""Sessions with what is known of their tasks, and the phases of the search."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner import environment
from tuner.experiment.prepare import RunContext
from tuner.protocols import Task
from tuner.records import Measurement, Tier

if TYPE_CHECKING:
    from tuner.build import LocalBuilder
    from tuner.graph import Lowered
    from tuner.measure.kernel import KernelBench
    from tuner.search_phase import SearchResult
    from tuner.session import Ledger, TaskSession
    from tuner.store import SqlStore


_CERTIFY_S = {"quick": 6.0, "standard": 50.0, "thorough": 150.0}
"""Seconds by effort for certifying all kernels together."""

_SMALL_CHANGE, _SMALL_CHANGE_S = 0.1, 5.0
"""A rest of an earlier run's budget below this share or these seconds counts as spent: it is what that run kept
back for ranking its finalists, or spent on what no trial can be charged with."""


class Searcher:
    """Makes sessions with what is known of their tasks, and runs the phases of the search."""

    def __init__(
        self,
        run: RunContext,
        store: SqlStore,
        builder: LocalBuilder,
        bench: KernelBench,
        ceilings: Mapping[str, Any],
    ) -> None:
        from costmodel.xgb import XgbRanker
        from kernels.features import SCHEMA
        from tuner.search.ranker import Ranker
        from tuner.session import Ledger

        self._run = run
        self._store = store
        self._builder = builder
        self._bench = bench
        self._work = run.work
        self._ceilings = ceilings
        self._config = run.config
        seed = run.config.search.seed
        self._ranker = Ranker(XgbRanker(SCHEMA, seed=seed, threads=environment.usable_threads()))
        scope = environment.scope_key(run.target.text, run.target.threads, run.config.measure.mode)
        self.ledger: Ledger = Ledger(store, run.folder.name, scope, seed)
        passes = run.config.passes
        self._pass_names = tuple(p for p in passes.kernel if p != "fast_math" or passes.fast_math)
        self._known_cost_s = 0.0
        self._known_trials = 0
        (run.work / "references").mkdir(exist_ok=True)

    def search(self, variants: list[Lowered]) -> SearchResult:
        from tuner.search_phase import Budget, SearchPhase

        search = self._config.search
        every = {task.key: task for lowered in variants for task in lowered.tasks}
        self._run.progress.phase(f"searching {len(every)} tasks, budget {search.time_budget_s:.0f} s")
        began = time.monotonic()
        if search.reuse:
            self._remember(set(every))
        sessions = {key: self._session(task) for key, task in every.items()}
        left = search.time_budget_s - self._known_cost_s
        if left < max(_SMALL_CHANGE_S, _SMALL_CHANGE * search.time_budget_s):
            left = 0.0
        trials = None if search.trials is None else max(search.trials - self._known_trials, 0)
        if self._known_trials:
            self._run.notes.append(
                f"{self._known_trials} trials of these tasks were known from earlier runs and not measured again "
                f"({self._known_cost_s:.0f} s of search; {left:.0f} s of the budget were left)"
            )
            self._run.progress.message(self._run.notes[-1])
        self.ledger.reused = self._known_trials
        budget = Budget(began + left, trials, self.ledger, self._run.interrupted)
        phase = SearchPhase(
            lambda task: sessions[task.key], budget, self._run.progress, search.batch, search.early_stop, self._floor
        )
        found = phase.run(variants)
        spent = left == 0.0 or trials == 0
        if spent and found.stopped_by in ("time budget", "trial budget"):
            found.stopped_by += ", spent in earlier runs"
        late = began + left + 0.02 * search.time_budget_s
        self._run.progress.phase("ranking the finalists")
        # A budget spent in earlier runs leaves their ranking, and so their winners, as they were.
        for session in sorted(found.sessions.values(), key=lambda s: -s.task.weight * (s.best_s or 0.0)):
            session.rank(lambda: spent or self._run.interrupted() or time.monotonic() > late)
        return found

    def _remember(self, tasks: set[str]) -> None:
        """Teach the cost model what earlier runs measured of other tasks, and of these on other devices."""
        from tuner.search.ranker import MAX_EARLIER
        from tuner.training import earlier

        for key, row, outcome in earlier(self._store, self.ledger.scope, tasks)[-MAX_EARLIER:]:
            self._ranker.remember(key, row, outcome)

    def finish(self, found: SearchResult) -> None:
        """Certify winners in a fresh process, on fresh inputs."""
        self._run.progress.phase("certifying the winners")
        self._bench.close()
        total_s = _CERTIFY_S[self._config.search.effort]
        each_s = min(max(total_s / (2 * len(found.sessions)), 0.05), 1.5)
        for session in found.sessions.values():
            session.certify(self._run.interrupted, each_s)

    def _floor(self, task: Task) -> float:
        from tuner.measure.ceilings import physical_floor_s

        return physical_floor_s(task.workload.flops, task.workload.bytes, dict(self._ceilings))

    def _session(self, task: Task) -> TaskSession:
        import numpy as np

        from kernels.features import FEATURE_LENGTH
        from kernels.space import Candidate
        from tuner import search
        from tuner.measure.ceilings import PLAUSIBLE
        from tuner.search.ranker import FeatureCache
        from tuner.session import TaskSession

        space = self._builder.space(task, self._pass_names)
        features = FeatureCache(_Features(self._builder, task))
        known: dict[tuple[str, Tier], Measurement] = {}
        if self._config.search.reuse:
            for record in self._store.read(scope=self.ledger.scope, task_key=task.key):
                known[(record.candidate, record.measurement.tier)] = record.measurement
                if len(record.features) == FEATURE_LENGTH:
                    features.put(Candidate.from_text(record.candidate), np.asarray(record.features, dtype=np.float32))
        strategy = search.create(
            self._config.search.strategy, space, features, self._ranker.task(task.key), self._config.search.seed
        )
        session = TaskSession(
            task, space, strategy, features, self._builder, self._bench, self.ledger,
            self._work / "references", known, PLAUSIBLE * self._floor(task),
        )  # fmt: skip
        self._known_cost_s += session.known_cost_s
        self._known_cost_s += sum(m.run_s for (_, tier), m in known.items() if tier is Tier.RANK)
        self._known_trials += session.trials
        return session


@dataclass(frozen=True)
class _Features:
    """The builder's feature rows for one task, as a Featurizer."""

    builder: LocalBuilder
    task: Task

    def rows(self, candidates: Any) -> Any:
        return self.builder.features(self.task, candidates)
