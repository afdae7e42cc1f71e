"""The entries: tune one task, or the tasks of a model, on one device within one budget."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tuner.devices.device import Neighbours
from tuner.graph import Choices, Lowered
from tuner.protocols import RecordStore, Task, TuningDevice
from tuner.records import Record
from tuner.tuning import algorithms, companions
from tuner.tuning import variants as graph_variants
from tuner.tuning.budget import Budget, SearchEnd
from tuner.tuning.certification import PROCESSES
from tuner.tuning.context import SearchContext
from tuner.tuning.known import KnownTask, Remaining, remaining
from tuner.tuning.ledger import Ledger
from tuner.tuning.phase import Pace, SearchPhase, Watch
from tuner.tuning.searcher import Searcher
from tuner.tuning.session import TaskSession
from tuner.tuning.total import Phase

_RANKING_SHARE = 0.02
"""The finalists may be ranked until this share of the time budget after its end."""

_SPACES_SHARE = 0.3
"""The share of the search that making the spaces may take, where there is a total budget."""

_SAME_FOR_ALL = 0.3
"""The share of the certification that is divided evenly; the rest goes by the kernels' part of the model's time."""

_LEAST_TOGETHER_S = 5.0
"""With less time to certify, no kernels are looked for that fit together."""

_NARROW = frozenset({"bfloat16", "int8", "uint8", "int16"})
"""The dtypes of operands that are packed for dot products."""

_LEAST_CERTIFY_S = 0.05
"""For one kernel in one process, beyond loading and checking: three rounds are run in any case."""


def tune_task(
    task: Task, searcher: Searcher, budget: Budget, pace: Pace, watch: Watch = lambda session: None
) -> TaskSession:
    """Search for one task's best kernel, on the searcher's device, within one budget.

    What the store knows of the task is not measured again. `watch` is called after each batch. What was found is in
    the session: its screened candidates, its best, and what `rank` and `certify` measure further.
    """
    session = searcher.start(task)
    tune_session(session, searcher, budget, pace, watch)
    return session


def tune_session(
    session: TaskSession, searcher: Searcher, budget: Budget, pace: Pace, watch: Watch = lambda session: None
) -> None:
    """Go on with the search for one task's best kernel: see `tune_task`."""
    phase = SearchPhase(budget, pace, searcher.device.lower_bound_s, searcher.context.progress, watch)
    phase.run({session.task.key: session})


@dataclass
class SearchResult:
    """The graph chosen, a session for each of its tasks, and why the search ended.

    `searched` has the sessions of all tasks: also those of algorithms that were not chosen.
    `spent_earlier`: earlier runs had left nothing of the budget. `runs` are those whose records were used.
    `algorithms`: by task key, for kernels that were searched in several ways, the best seconds of each.
    """

    lowered: Lowered
    sessions: dict[str, TaskSession]
    ledger: Ledger
    ended_by: SearchEnd
    spent_earlier: bool
    runs: frozenset[str]
    explanations: list[str] = field(default_factory=list)
    searched: Mapping[str, TaskSession] = field(default_factory=dict)
    algorithms: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def stopped_by(self) -> str:
        """Why the search ended, in words."""
        return f"{self.ended_by}, spent in earlier runs" if self.spent_earlier else str(self.ended_by)


def tune_model(
    variants: Sequence[Choices],
    device: TuningDevice,
    store: RecordStore,
    context: SearchContext,
    is_of_this_model: Callable[[Record], bool],
) -> SearchResult:
    """Choose among lowered variants of a model, search the tasks of the chosen one, choose the algorithm of each
    kernel, and rank the finalists.

    What the records of this model's earlier runs spent is taken off the budget; an interrupted one is replayed.
    """
    search = context.search
    tasks = {task.key: task for variant in variants for task in variant.tasks}
    context.progress.phase(f"searching {len(tasks)} tasks, budget {search.time_budget_s:.0f} s")
    began = time.monotonic()
    ended = store.ended()
    searcher = Searcher(device, store, context)
    if search.reuse:
        searcher.learn_from_earlier_runs(set(tasks), ended)
    known = _known(searcher, tasks, context, began)
    runs = frozenset(run for task in known.values() for run in task.runs)
    stored = [record for task in known.values() for record in task.measured.values() if is_of_this_model(record)]
    rest = remaining(search, stored, ended)
    _note_what_is_known(context, searcher.ledger, known, rest)
    sessions = {key: searcher.session(tasks[key], known[key], rest.interrupted) for key in tasks}
    budget = rest.budget(began, searcher.ledger, context.interrupted)
    pace = Pace(search.batch, early_stop=search.early_stop)
    phase = SearchPhase(budget, pace, device.lower_bound_s, context.progress)
    chosen, why = graph_variants.choose(variants, lambda task: sessions[task.key], budget, phase.show)
    searched = {task.key: sessions[task.key] for task in chosen.tasks}
    reached = {key: session for key, session in searched.items() if session.space.sketches}
    ended_by, sentences = phase.run(reached, {k: g for k, g in chosen.groups.items() if k in reached})
    found = algorithms.choose(chosen, sessions)
    sessions_of_model = {task.key: sessions[task.key] for task in found.lowered.tasks}
    spent_earlier = rest.spent and ended_by in (SearchEnd.TIME, SearchEnd.TRIALS)
    # A budget spent in earlier runs leaves their ranking, and so their winners, as they were; unless one of them
    # was killed, perhaps while ranking.
    _rank(sessions_of_model, context, budget, nothing_new=rest.spent and runs <= ended)
    return SearchResult(
        found.lowered, sessions_of_model, searcher.ledger, ended_by, spent_earlier, runs,
        [*why, *sentences, *found.sentences], searched, found.seconds,
    )  # fmt: skip


def _known(searcher: Searcher, tasks: Mapping[str, Task], context: SearchContext, began: float) -> dict[str, KnownTask]:
    """The space of each task and what is stored of it. Where a total budget leaves no time to make all spaces, those
    tasks that compute little get none: they are not searched. Narrow numbers always get one: TVM's own
    program of an operand that was packed for dot products is a hundred times slower."""
    if not context.total.limited:
        return {key: searcher.known(task) for key, task in tasks.items()}
    end = began + _SPACES_SHARE * context.search.time_budget_s
    known: dict[str, KnownTask] = {}
    for key, task in sorted(tasks.items(), key=lambda item: -item[1].weight * item[1].workload.flops):
        late = time.monotonic() >= end or context.interrupted()
        if known and late and not _NARROW & {spec.dtype for spec in task.workload.args}:
            first = next(iter(known.values()))
            known[key] = KnownTask(dataclasses.replace(first.space, sketches=()), reached=False)
        else:
            known[key] = searcher.known(task)
    if left_out := sum(not task.reached for task in known.values()):
        context.note(f"{left_out} of {len(known)} kernels were not searched: the total budget leaves no time for them")
    return {key: known[key] for key in tasks}


def _note_what_is_known(
    context: SearchContext, ledger: Ledger, known: Mapping[str, KnownTask], rest: Remaining
) -> None:
    if context.search.strategy == "grid" and (unlisted := sum(k.space.points() is None for k in known.values())):
        context.note(
            f"grid: the spaces of {unlisted} of {len(known)} tasks are too large to be tried whole: "
            "their points come in a scattered order for as long as the budget lasts"
        )
    ledger.reused = sum(task.trials for task in known.values())
    if ledger.reused:
        context.note(
            f"{ledger.reused} trials of these tasks were known from earlier runs and not measured again "
            f"({rest.spent_s:.0f} s of search were spent on this model; {rest.seconds:.0f} s of the budget left)"
        )


def _rank(sessions: Mapping[str, TaskSession], context: SearchContext, budget: Budget, nothing_new: bool) -> None:
    """Measure each task's finalists longer, those first that take most of the model's time."""
    context.progress.phase("ranking the finalists")
    late = budget.deadline + _RANKING_SHARE * context.search.time_budget_s
    for session in sorted(sessions.values(), key=lambda s: -s.task.weight * (s.best_s or 0.0)):
        session.rank(lambda: nothing_new or context.interrupted() or time.monotonic() > late)


def certify(
    result: SearchResult, device: TuningDevice, store: RecordStore, context: SearchContext,
    neighbours: Neighbours | None = None,
) -> None:  # fmt: skip
    """Certify finalists and untuned programs: several fresh processes, fresh inputs. Then the runs count as ended.

    Where it is known what kernels cost their `neighbours` in the model, forms of the finalists that fit together are
    certified with them, and the winners are those that take the least time together.

    All kernels go through a process before the next one starts. Time goes by what a kernel is to the model; a
    part of it is the same for all. When the time is over, what is left of the later processes is left out: the
    measurement's metadata says in how many a kernel was measured. Within a total budget no kernel is begun that would
    not end in time: its figures stay those of the search.
    """
    total = context.total
    certify_s = total.allowed_s(Phase.CERTIFICATION, context.settings.certify_s)
    over = total.stop_after(certify_s) if total.limited else lambda: False
    if neighbours is not None and not context.interrupted() and certify_s >= _LEAST_TOGETHER_S:
        context.progress.phase("looking for kernels that fit together")
        companions.nominate(result.lowered, result.sessions, neighbours)
    context.progress.phase("certifying the finalists")
    spent = {key: session.task.weight * (session.best_s or 0.0) for key, session in result.sessions.items()}
    sessions = sorted(result.sessions.values(), key=lambda session: -spent[session.task.key])
    all_s = sum(spent.values()) or 1.0
    shares = {key: _SAME_FOR_ALL / len(sessions) + (1 - _SAME_FOR_ALL) * s / all_s for key, s in spent.items()}
    began = time.monotonic()
    for process in range(PROCESSES):
        device.bench.renew()
        owed = float(PROCESSES - process)
        for session in sessions:
            left_s = began + certify_s - time.monotonic()
            share = shares[session.task.key]
            if (process and left_s <= 0.0) or over():
                break
            most_s = left_s if total.limited else math.inf
            session.certify(context.interrupted, max(left_s * share / owed, _LEAST_CERTIFY_S), most_s)
            owed -= share
    for session in sessions:
        session.settle()
    if neighbours is not None:
        result.explanations += companions.prefer(result.lowered, result.sessions, neighbours)
    if not context.interrupted():
        for run in result.runs | {context.run_id}:
            store.end(run)
