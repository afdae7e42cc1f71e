"""`run`: tune, verify, compare, report and export a model. Also `report` and `export`, which repeat the last two."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import config as config_file
from tuner import environment, files
from tuner.commands import accuracy, within
from tuner.commands.fallback import Fallback
from tuner.commands.last_night import since_last_night
from tuner.commands.layer_times import layer_times
from tuner.commands.prepare import (
    RunContext,
    as_started,
    hold,
    is_run_of,
    lowered,
    open_store,
    run_folder,
    scope_of,
    start,
    tidy,
)
from tuner.commands.summarize import RunFacts, headline, summarize
from tuner.commands.symbol import BEHIND_SYMBOL
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.errors import UserError
from tuner.measure.quality import in_words
from tuner.models import ImportedModel
from tuner.nights import Since
from tuner.precisions import FLOAT32
from tuner.process.interrupts import Interrupts
from tuner.process.worker import ChildDied, ChildError
from tuner.progress import Progress
from tuner.tuning.total import Phase

if TYPE_CHECKING:
    from tuner.devices.device import Device
    from tuner.graph import Choices
    from tuner.store import SqlStore
    from tuner.tuning.context import SearchContext


LOG = "log.txt"
"""In the run's folder: the tracebacks of what failed after the search."""

MISSED = 4
"""The exit code of a run whose model misses the accuracy that was asked for."""

_SHOWN = 300  # characters of an error that a note repeats


@dataclass(frozen=True)
class RunOutcome:
    """What the command line needs of a finished run."""

    run_dir: Path
    exit_code: int
    lines: list[str]


def run(
    config: RunConfig, command: str, progress: Progress, resume: str | None = None, replay: Path | None = None
) -> RunOutcome:
    """Tune, verify, compare, report and export the configured model.

    With `resume` the run of that id is continued with the configuration it was started with. With `replay`, a file
    of recorded measurements, kernels are built and checked but not timed. Raises TunerError for what the user or the
    machine got wrong; an interrupt ends the search, and the rest is done with what was found by then.
    """
    environment.check_versions()
    config = as_started(config, resume)
    with hold(config):  # before anything slow, so that a second run is refused at once
        return _run_alone(config, command, progress, resume, replay)


def _run_alone(
    config: RunConfig, command: str, progress: Progress, resume: str | None, replay: Path | None
) -> RunOutcome:
    target = resolve.resolve(config.target, to_run=replay is None)
    with Interrupts(progress.message) as interrupted, open_store(config, progress.message) as store:
        one_run = _Run(config, command, progress, target, Path(config.out), interrupted, replay=replay, resume=resume)
        return one_run.execute(store)


def run_within(
    config: RunConfig, command: str, progress: Progress, interrupted: Interrupts, store: SqlStore, name: str,
    shape: str, resume: bool,
) -> RunOutcome:  # fmt: skip
    """One run of several in the folder `name` of `config.out`, for whoever holds that folder. `shape` is the name of
    its shape: earlier runs of the same model and shape count against its budget."""
    target = resolve.resolve(config.target)
    one_run = _Run(
        config, command, progress, target, Path(config.out), interrupted, resume=name if resume else None, named=name,
        shape=shape,
    )  # fmt: skip
    return one_run.execute(store)


def tasks(config: RunConfig, progress: Progress) -> list[dict[str, Any]]:
    """The tasks of the configured model, as `name`, `key`, `weight`, `flops` and `bytes` (the least it must move)."""
    environment.check_versions()
    target = resolve.resolve(config.target, to_run=False)
    _, variants = lowered(config, target, progress)
    return [
        {"name": t.name, "key": t.key, "weight": t.weight, "flops": t.workload.flops, "bytes": t.workload.bytes}
        for t in variants[0].tasks
    ]


def rebuild_report(run: str, out: str) -> tuple[Path, Sequence[Since]]:
    """Write the report of a finished run again, from its summary and records. Returns its folder, and how its model
    stands since last night."""
    from tuner import report
    from tuner.store import SqlStore

    folder = Path(out) / run
    config = config_file.load(str(folder / "config.yaml"))
    summary = _summary(folder)
    keys = [kernel["task"] for kernel in summary["kernels"]]
    target = resolve.resolve(config.target, to_run=False)
    scope = scope_of(target, config.measure.mode)
    with SqlStore(config.measure.database) as store:
        records = store.read(scope=scope, task_key=keys)
    since = since_last_night(config.measure.database, summary, folder)
    report.render(folder, records, config.report.formats, since)
    return folder, since


def reexport(run: str, out: str) -> Path:
    """Build and export a finished run's winners again. Returns the export folder. Nothing is measured."""
    from tuner.commands.whole_model import rebuild_export

    folder = Path(out) / run
    config = config_file.load(str(folder / "config.yaml"))
    summary = _summary(folder)
    if not summary["end_to_end"]["verified"]:
        raise UserError(f"{run}: its outputs were not verified, so it is not exported", "run it again")
    judged = (summary.get("precision") or {}).get("quality")
    if judged is not None and judged["met"] is False:
        why = f"it misses its accuracy, so it is not exported: {in_words(judged)}"
        raise UserError(f"{run}: {why}", "run it in another precision, or ask for less")
    named = {k["task"]: k["candidate"] or k.get("untuned_candidate") for k in summary["kernels"]}
    winners = {task: candidate for task, candidate in named.items() if candidate}
    versions = summary["environment"].get("packages", {})
    with hold(dataclasses.replace(config, out=out)):
        return rebuild_export(config, resolve.resolve(config.target), folder, winners, versions)


def _summary(folder: Path) -> dict[str, Any]:
    """The summary of a run; a damaged one is set aside. Raises UserError."""
    from tuner.report import summary as summary_file

    try:
        return summary_file.load(folder)
    except UserError as error:
        if not summary_file.damaged(folder):
            raise
        aside = files.set_aside(folder / summary_file.FILE)
        again = f"python -m tuner run {shlex.quote(str(folder / 'config.yaml'))} --resume {shlex.quote(folder.name)}"
        raise UserError(
            f"{error.message}; set aside as {aside.name}", f"make it again, from the records: {again}"
        ) from error


# --- one run --------------------------------------------------------------------------------------


@dataclass
class _Run(RunContext):
    """One run. `resume` is the id of the run that it continues; `failures`: what failed after the search, in words.
    `named` and `shape`: of one of several, the name of its folder and that of its shape."""

    resume: str | None = None
    named: str | None = None
    shape: str = ""
    failures: list[str] = field(default_factory=list)

    def execute(self, store: SqlStore) -> RunOutcome:
        """The whole run, from the model to the report."""
        began = time.monotonic()
        self.progress.caveat = resolve.caveats_of(self.target).kernel
        continued = None if self.resume is None else self.folder / self.resume
        self.total = within.opened(self.config, continued, store, self.progress)
        tidy(Path(self.config.out))
        model, variants = self._lowered(store)
        accuracy.samples_of(self.config, model)
        self.notes += model.notes
        if self.resume is None:
            start(self.folder, config_file.to_yaml(self.config))
        within.keep(self.folder, self.config, self.total)
        captured = environment.capture()
        files.write_aside(self.folder / "environment.json", json.dumps(captured, indent=1).encode())
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            facts = self._search_and_finish(model, variants, store, captured)
            facts.wall_s = time.monotonic() - began
            return self._report(facts, store)
        except (OSError, ChildDied, ChildError):
            # Where the disk is full or read-only, that is what to report.
            files.require_room(self.folder)
            files.require_temporary_folder()
            raise
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def _lowered(self, store: SqlStore) -> tuple[ImportedModel, list[Choices]]:
        """The model, lowered, and the run's folder; before that, where files of the model are to lie in it. A new one
        does not stay where the model cannot be lowered."""
        narrower = self.config.precision != FLOAT32
        if narrower:
            self._make_folder()
        try:
            model, variants = lowered(
                self.config, self.target, self.progress, folder=self.folder if narrower else None,
                timer=lambda calls, precisions: layer_times(self, store, calls, precisions),
            )  # fmt: skip
        except BaseException:
            if narrower and not (self.folder / "config.yaml").exists():
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        if not narrower:
            self._make_folder()
        return model, variants

    def _make_folder(self) -> None:
        self.folder = run_folder(self.config, self.resume or self.named)
        if self.named is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def _search_and_finish(
        self, model: ImportedModel, variants: list[Choices], store: SqlStore, captured: dict[str, Any]
    ) -> RunFacts:
        from tuner.commands import profile, whole_model
        from tuner.commands.rehearsal import rehearse
        from tuner.importers import provenance
        from tuner.tuning import beginnings, untuned
        from tuner.tuning.tune import certify, tune_model

        device = resolve.kind_of(self.target).open(self.opening())
        try:
            rehearsal = rehearse(self, device, model, variants[0].lowered)
            ceilings = device.ceilings  # before the clock starts: measuring them is not within the search's budget
            search = self._search_context(store, captured, rehearsal.end_s)
            within.keep(self.folder, self.config, self.total)
            began = time.monotonic()
            source = self.config.model.source
            result = tune_model(
                variants, device, store, search, lambda record: is_run_of(record.run_id, source, self.shape)
            )
            beginnings.begin(result.sessions, search, 2.0 * rehearsal.answer_s)
            search_s = time.monotonic() - began
            within.keep(self.folder, self.config, self.total)
            certify(result, device, store, search, device.neighbours if self._divides_threads() else None)
            facts = RunFacts(
                run_id=self.folder.name, command=self.command, config=self.config, model=model, target=self.target,
                search=result, ceilings=ceilings, environment=captured, search_s=search_s,
                kernel_baselines={},
                lower_bounds_s={task.key: device.lower_bound_s(task) for task in result.lowered.tasks},
                inputs=provenance(model.inputs, model.model_spec, self.config.search.seed),
            )  # fmt: skip
            facts.untuned = untuned.checked(result.sessions, lambda: True)
            with self._costs_itself("kernels that keep TVM's own program were not all checked"):
                facts.untuned |= untuned.checked(facts.not_tuned(), self._late)
            unreached = untuned.unreached(result.sessions, {key: facts.untuned[key] for key in facts.not_tuned()})
            facts.untuned |= unreached
            self.notes += untuned.notes(result.sessions, facts.untuned, facts.winners())
            with self._costs_itself("the kernels of frameworks were not timed"):
                facts.kernel_baselines = whole_model.kernel_baselines(self, device, result)
            fallback = Fallback({}, {}, lambda *_: None, str, self.notes.append, self._late)
            with self._costs_itself("no tuned kernel could be put into the model"):
                fallback = self._fallback(device, facts)
        finally:
            device.close()
        try:
            with self._costs_itself("the whole model was neither compared nor exported"):
                facts.comparison, facts.manifest = whole_model.whole_model(
                    self, device, model, result.lowered, fallback, facts.versions(), rehearsal
                )
                facts.untuned |= {key: untuned.Untuned(None) for key in unreached if key not in fallback.winners}
        finally:
            device.builder.close()  # a fallback may have built
        self.total.reserved_s = 0.0
        with self._costs_itself("where the model's time goes was not measured"):
            facts.account = profile.account_of_run(self, model, result.lowered)
        facts.notes = [*self.notes, *result.explanations]
        return facts

    def _late(self) -> bool:
        return self.interrupted() or self.total.free_s <= 0.0

    def _fallback(self, device: Device, facts: RunFacts) -> Fallback:
        """The parts of the model, and what takes the place of one that is wrong."""
        from tuner.commands import whole_model

        result = facts.search
        kept = {key: u.candidate for key, u in facts.untuned.items() if u.candidate is not None and u.checked}
        unreached = {key: u.candidate for key, u in facts.untuned.items() if u.candidate is not None and not u.checked}

        def successor(key: str, reason: str) -> Any:
            session = result.sessions[key]
            if session.best is not None:
                session.refuse(session.best, f"it makes the whole model wrong: {reason}")
            candidate = facts.winners().get(key)
            return None if candidate is None else whole_model.part(device, result, key, candidate)

        return Fallback(
            dict(whole_model.parts(device, result, {**unreached, **facts.winners()})),
            whole_model.parts(device, result, kept),
            successor, lambda key: result.sessions[key].task.name, self.notes.append, self._late,
        )  # fmt: skip

    @contextlib.contextmanager
    def _costs_itself(self, what: str) -> Iterator[None]:
        """For a part after the search: where it fails, `what` is noted with the reason, and the run goes on.

        The traceback goes to LOG in the run's folder. Where the disk is full or read-only the run ends with that, as
        nothing more can be written.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a boundary: what was measured must come to its report
            files.require_room(self.folder)
            files.require_temporary_folder()
            reason = next(iter(str(error).strip().splitlines()), "")[:_SHOWN] or type(error).__name__
            self._log(what)
            self.failures.append(f"{what}: {reason} (details in {self.folder / LOG})")
            self.notes.append(f"{what}: {reason} (details in {LOG})")
            self.progress.message(self.failures[-1])

    def _log(self, what: str) -> None:
        """Append the traceback of the exception being handled to the run's log; of a child's error also the child's."""
        error = sys.exc_info()[1]
        details = getattr(error, "details", "") if isinstance(error, ChildError) else ""
        with contextlib.suppress(OSError), open(self.folder / LOG, "a", encoding="utf-8", errors="replace") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {what}\n{traceback.format_exc()}{details}\n")

    def _divides_threads(self) -> bool:
        return "threads" in self.config.passes.kernel

    def _search_context(self, store: SqlStore, captured: dict[str, Any], end_s: float) -> SearchContext:
        """For a search that begins now; `end_s` is what the end of the run will need."""
        from tuner.tuning.context import SearchContext, searched_passes
        from tuner.tuning.known import searched_s

        facts = environment.stable_facts(captured)
        environment_id = environment.environment_id(captured)
        store.add_environment(environment_id, facts)
        self.total.reserved_s = end_s
        search = self.config.search
        if self.total.limited:
            earlier = [] if self.resume is None else store.read(run_id=self.folder.name)
            share_s = self.total.allowed_s(Phase.SEARCH, search.time_budget_s) + sum(map(searched_s, earlier))
            search = dataclasses.replace(search, time_budget_s=min(search.time_budget_s, share_s))
        return SearchContext(
            search, searched_passes(self.config.passes), self.folder.name, self.scope, self.work,
            self.progress, self.interrupted, self.notes, environment_id, captured["git_revision"] or "",
            total=self.total,
        )  # fmt: skip

    def _report(self, facts: RunFacts, store: SqlStore) -> RunOutcome:
        from tuner import report
        from tuner.report import summary as summary_file

        self.progress.phase("writing the report")
        if self.total.limited:
            facts.notes.append(within.in_words(self.total))
        if facts.manifest is not None:
            facts.manifest["path"] = "export"
        if store.quarantined:
            facts.notes.append(f"{store.quarantined} damaged rows of the record database were skipped")
        summary = summarize(facts)
        summary_file.save(self.folder, summary)
        records = store.read(scope=self.scope, task_key=list(facts.search.sessions))
        since = since_last_night(self.config.measure.database, summary, self.folder)
        lines = headline(summary)
        with self._costs_itself("the report was not written"):
            report.render(self.folder, records, self.config.report.formats, since)
            lines.append(f"report: {self.folder / 'report.html'}")
        if facts.manifest is not None:
            lines.append(f"export: {self.folder / 'export'}")
        lines += [note for note in summary["notes"] if note.startswith(("not exported: ", BEHIND_SYMBOL))]
        if self.failures:
            again = shlex.quote(str(self.folder / "config.yaml"))
            lines += [*self.failures, "nothing measured is lost; what failed is tried again by: "]
            lines[-1] += f"python -m tuner run {again} --resume {self.folder.name}"
        missed = facts.comparison is not None and facts.comparison.misses_accuracy
        code = 130 if self.interrupted() else 3 if self.failures else MISSED if missed else 0
        return RunOutcome(self.folder, code, lines)
