"""Sessions with what is known of their tasks, and the phases of the search."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from tuner.commands.prepare import Features, RunContext, is_run_of
from tuner.devices.device import Device
from tuner.protocols import Task
from tuner.tuning.known import KnownTask, left

if TYPE_CHECKING:
    from tuner.devices.builder import LocalBuilder
    from tuner.graph import Lowered
    from tuner.store import SqlStore
    from tuner.tuning.phase import SearchResult
    from tuner.tuning.session import Ledger, TaskSession


_CERTIFY_S = {"quick": 6.0, "standard": 30.0, "thorough": 150.0}
"""Seconds by effort for certifying all kernels together."""

_SAME_FOR_ALL = 0.3
"""The share of the certification that is divided evenly; the rest goes by the kernels' part of the model's time."""

_LEAST_CERTIFY_S = 0.05
"""For one kernel in one process, beyond loading and checking: three rounds are run in any case."""


class Searcher:
    """Makes sessions with what is known of their tasks, and runs the phases of the search."""

    def __init__(
        self,
        run: RunContext,
        store: SqlStore,
        builder: LocalBuilder,
        device: Device,
    ) -> None:
        from costmodel.xgb import XgbRanker
        from kernels.features import SCHEMA
        from tuner.search.ranker import Ranker
        from tuner.search.winners import Winners
        from tuner.tuning.session import Ledger

        self._run = run
        self._store = store
        self._builder = builder
        self._device = device
        self._bench = device.bench
        self._work = run.work
        self._config = run.config
        seed = run.config.search.seed
        self._ranker = Ranker(XgbRanker(SCHEMA, seed=seed))
        self._winners = Winners()
        name = run.folder.name
        numbered = max((record.trial for record in store.read(run_id=name)), default=0)
        self.ledger: Ledger = Ledger(store, name, run.scope, seed, numbered)
        self._used: set[str] = set()
        passes = run.config.passes
        self._pass_names = tuple(p for p in passes.kernel if p not in ("fast_math", "cuda_math") or passes.fast_math)
        (run.work / "references").mkdir(exist_ok=True)

    def search(self, variants: list[Lowered]) -> SearchResult:
        from tuner.tuning.phase import SearchPhase

        search = self._config.search
        every = {task.key: task for lowered in variants for task in lowered.tasks}
        self._run.progress.phase(f"searching {len(every)} tasks, budget {search.time_budget_s:.0f} s")
        began = time.monotonic()
        ended = self._store.ended()
        if search.reuse:
            self._remember(set(every), ended)
        known = {key: self._known(task) for key, task in every.items()}
        if search.strategy == "grid":
            self._note_unlisted(known)
        mine = [
            r for k in known.values() for r in k.measured.values() if is_run_of(r.run_id, self._config.model.source)
        ]
        rest = left(search, mine, ended)
        sessions = {key: self._session(every[key], found, rest.cut) for key, found in known.items()}
        self.ledger.reused = sum(found.trials for found in known.values())
        if self.ledger.reused:
            self._note(
                f"{self.ledger.reused} trials of these tasks were known from earlier runs and not measured again "
                f"({rest.spent_s:.0f} s of search were spent on this model; {rest.seconds:.0f} s of the budget left)"
            )
        budget = rest.budget(began, self.ledger, self._run.interrupted)
        phase = SearchPhase(
            lambda task: sessions[task.key],
            budget,
            self._run.progress,
            search.batch,
            search.early_stop,
            self._device.lower_bound_s,
        )
        found = phase.run(variants)
        if rest.spent and found.stopped_by in ("time budget", "trial budget"):
            found.stopped_by += ", spent in earlier runs"
        late = budget.deadline + 0.02 * search.time_budget_s
        cut_short = not self._used <= ended
        self._run.progress.phase("ranking the finalists")
        # A budget spent in earlier runs leaves their ranking, and so their winners, as they were; unless one of them
        # was killed, perhaps while ranking.
        done = rest.spent and not cut_short
        for session in sorted(found.sessions.values(), key=lambda s: -s.task.weight * (s.best_s or 0.0)):
            session.rank(lambda: done or self._run.interrupted() or time.monotonic() > late)
        return found

    def _note_unlisted(self, known: Mapping[str, KnownTask]) -> None:
        """Say for how many tasks a grid is more than any budget."""
        unlisted = sum(found.space.points() is None for found in known.values())
        if unlisted:
            self._note(
                f"grid: the spaces of {unlisted} of {len(known)} tasks are too large to be tried whole: "
                "their points come in a scattered order for as long as the budget lasts"
            )

    def _note(self, text: str) -> None:
        """A sentence for whoever watches, and for the report."""
        self._run.notes.append(text)
        self._run.progress.message(text)

    def _remember(self, tasks: Collection[str], ended: Collection[str]) -> None:
        """Teach what earlier runs measured of other tasks, and the cost model also of these on other devices.

        Winners are those of runs that came to their end: a search that is gone over again must find the same.
        """
        from kernels.space import Candidate
        from tuner.commands.model import earlier
        from tuner.search.ranker import MAX_EARLIER

        for key, row, outcome in earlier(self._store, self.ledger.scope, tasks)[-MAX_EARLIER:]:
            self._ranker.remember(key, row, outcome)
        for record in self._store.read(scope=self.ledger.scope):
            if record.run_id in ended and record.task_key not in tasks and record.measurement.ok:
                with contextlib.suppress(ValueError):  # a damaged row is nobody's winner
                    self._winners.note(
                        record.task_key, Candidate.from_text(record.candidate), record.measurement.median_s
                    )

    def finish(self, found: SearchResult) -> None:
        """Certify finalists and untuned programs: several fresh processes, fresh inputs.

        All kernels go through a process before the next one starts. Time goes by what a kernel is to the model; a
        part of it is the same for all. When the time is over, what is left of the later processes is left out: the
        certificate says in how many a kernel was measured.
        """
        from tuner.tuning.certification import PROCESSES

        self._run.progress.phase("certifying the finalists")
        spent = {key: session.task.weight * (session.best_s or 0.0) for key, session in found.sessions.items()}
        sessions = sorted(found.sessions.values(), key=lambda session: -spent[session.task.key])
        total = sum(spent.values()) or 1.0
        shares = {key: _SAME_FOR_ALL / len(sessions) + (1 - _SAME_FOR_ALL) * s / total for key, s in spent.items()}
        began = time.monotonic()
        for process in range(PROCESSES):
            self._bench.renew()
            owed = float(PROCESSES - process)
            for session in sessions:
                left_s = began + _CERTIFY_S[self._config.search.effort] - time.monotonic()
                share = shares[session.task.key]
                if process and left_s <= 0.0:
                    break
                session.certify(self._run.interrupted, max(left_s * share / owed, _LEAST_CERTIFY_S))
                owed -= share
        for session in sessions:
            session.settle()
        if not self._run.interrupted():
            for run in self._used | {self.ledger.run_id}:
                self._store.end(run)

    def _known(self, task: Task) -> KnownTask:
        """What is stored of a task that this run can use."""
        from kernels.features import FEATURE_LENGTH

        found = KnownTask(self._builder.space(task, self._pass_names))
        # A fresh start knows nothing of other runs; resumed, it knows of its own earlier life.
        own = None if self._config.search.reuse else self.ledger.run_id
        for record in self._store.read(scope=self.ledger.scope, task_key=task.key, run_id=own):
            found.add(record, FEATURE_LENGTH)
        self._used |= found.runs
        return found

    def _session(self, task: Task, found: KnownTask, cut: Collection[str]) -> TaskSession:
        """A session that knows what is stored. What runs measured that were `cut` off, it will go over again."""
        from tuner import search
        from tuner.devices.cpu.ceilings import PLAUSIBLE
        from tuner.search.ranker import FeatureCache
        from tuner.tuning.session import TaskSession

        features = FeatureCache(Features(self._builder, task))
        for candidate, row in found.rows.items():
            features.put(candidate, row)
        known, again = found.apart(cut)
        problem = search.Problem(
            found.space, features, self._ranker.task(task.key), self._config.search.seed, task,
            self._winners.task(task.key),
        )  # fmt: skip
        strategy = search.create(self._config.search.strategy, problem)
        return TaskSession(
            task, found.space, strategy, features, self._builder, self._bench, self.ledger,
            self._work / "references", known, PLAUSIBLE * self._device.lower_bound_s(task), again,
        )  # fmt: skip
