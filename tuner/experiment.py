"""The experiment runner and composition root: the only place that names concrete classes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import config as config_file
from tuner import environment, targets
from tuner.config import RunConfig
from tuner.errors import OutputError, TargetError, UserError
from tuner.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import RANK, ImportedModel, Task
from tuner.records import Measurement, Record, Tier
from tuner.summarize import RunFacts, summarize

if TYPE_CHECKING:
    from tuner.build import LocalBuilder
    from tuner.endtoend import Entrant
    from tuner.endtoend import Outcome as Contest
    from tuner.graph import Lowered
    from tuner.measure.kernel import KernelBench
    from tuner.search_phase import SearchResult
    from tuner.session import Ledger, TaskSession
    from tuner.store import SqlStore

_CONTEST_S = {"quick": 8.0, "standard": 40.0, "thorough": 90.0}
_CERTIFY_S = {"quick": 6.0, "standard": 50.0, "thorough": 150.0}
"""Seconds for certifying all kernels, and as much again for their PyTorch counterparts."""

_CONTEST_INTERRUPTED_S = 8.0
_WORK = ".work"


@dataclass(frozen=True)
class Outcome:
    """What the command line needs of a finished run."""

    run_dir: Path
    exit_code: int
    lines: list[str]


def run(config: RunConfig, command: str, progress: Progress, resume: str | None = None) -> Outcome:
    """Tune, verify, compare, report and export the configured model.

    With `resume` the run of that id is continued with the configuration it was started with. Raises TunerError
    for what the user or the machine got wrong; an interrupt ends the search, and the rest is done with
    what there is.
    """
    environment.check_versions()
    if resume is not None:
        config = config_file.load(str(Path(config.out) / resume / "config.yaml"))
    target = targets.resolve(config.target)
    if target.kind == "cuda":
        raise TargetError(
            "this version compiles for CUDA but has no runner for it yet",
            "use `target: llvm` to tune for this machine's CPU",
        )
    folder = _run_folder(config, resume)
    with Interrupts(progress.message) as interrupted:
        return _Run(config, command, progress, target, folder, interrupted).execute()


def tasks(config: RunConfig, progress: Progress) -> list[dict[str, Any]]:
    """The tasks of the configured model: name, key, weight, flops, least bytes."""
    environment.check_versions()
    target = targets.resolve(config.target, to_run=False)
    _, variants = _lowered(config, target, progress)
    return [
        {"name": t.name, "key": t.key, "weight": t.weight, "flops": t.workload.flops, "bytes": t.workload.bytes}
        for t in variants[0].tasks
    ]


def rebuild_report(run: str, out: str) -> Path:
    """Write the report of a finished run again, from its summary and records. Returns its folder."""
    from tuner import report

    folder = Path(out) / run
    config = config_file.load(str(folder / "config.yaml"))
    with _store(config) as store:
        report.render(folder, store.read(run_id=run), config.report.formats)
    return folder


def reexport(run: str, out: str) -> Path:
    """Build and export a finished run's winners again. Returns the export folder. Nothing is measured."""
    from tuner import report
    from tuner.report import summary as summary_file

    folder = Path(out) / run
    config = config_file.load(str(folder / "config.yaml"))
    summary = summary_file.load(folder)
    target = targets.resolve(config.target)
    if not summary["end_to_end"]["verified"]:
        raise UserError(f"{run}: its outputs were not verified, so it is not exported", "run it again")
    del report
    winners = {k["task"]: k["candidate"] for k in summary["kernels"] if k["candidate"] and k["verdict"] == "FASTER"}
    return _rebuild_export(config, target, folder, winners, summary)


# --- one run --------------------------------------------------------------------------------------


@dataclass
class _Run:
    config: RunConfig
    command: str
    progress: Progress
    target: targets.ResolvedTarget
    folder: Path
    interrupted: Interrupts
    notes: list[str] = field(default_factory=list)

    def execute(self) -> Outcome:
        began = time.monotonic()
        work = self.folder / _WORK
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        _write(self.folder / "config.yaml", config_file.to_yaml(self.config))
        captured = environment.capture()
        _write(self.folder / "environment.json", json.dumps(captured, indent=1))
        try:
            model, variants = _lowered(self.config, self.target, self.progress)
            with _store(self.config) as store:
                facts = self._search_and_finish(model, variants, store, work, captured)
                facts.wall_s = time.monotonic() - began
                return self._report(facts, store)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _search_and_finish(
        self, model: ImportedModel, variants: list[Lowered], store: SqlStore, work: Path, captured: dict[str, Any]
    ) -> RunFacts:
        from tuner.build import LocalBuilder
        from tuner.measure.contest import thread_env
        from tuner.measure.kernel import KernelBench

        self.progress.phase("measuring this machine's ceilings")
        ceilings = _ceilings(self.target.threads)
        workers = self.config.measure.workers or environment.usable_threads()
        builder = LocalBuilder(self.target.text, work / "kernels", workers, self.config.measure.build_timeout_s)
        bench = KernelBench(
            self.config.measure.mode, thread_env(self.target.threads), self.config.measure.run_timeout_s
        )
        try:
            searcher = _Searcher(self, store, builder, bench, work, ceilings)
            began = time.monotonic()
            found = searcher.search(variants)
            search_s = time.monotonic() - began
            searcher.finish(found)
            baselines = self._kernel_baselines(found)
            facts = RunFacts(
                run_id=self.folder.name, command=self.command, config=self.config, model=model, target=self.target,
                found=found, ledger=searcher.ledger, ceilings=ceilings, environment=captured, search_s=search_s,
                kernel_baselines=baselines, notes=[*self.notes, *found.explanations],
            )  # fmt: skip
            winners = facts.winners()
            objects = {key: found.sessions[key].object_of(candidate) for key, candidate in winners.items()}
        finally:
            builder.close()
            bench.close()
        facts.contest, facts.manifest = self._whole_model(model, found.lowered, objects, work, facts)
        return facts

    # --- whole model ------------------------------------------------------------------------------

    def _whole_model(
        self, model: ImportedModel, lowered: Lowered, objects: Mapping[str, Any], work: Path, facts: RunFacts
    ) -> tuple[Contest, dict[str, Any] | None]:
        from tuner.endtoend import TUNED, UNTUNED, compete
        from tuner.importers import model_inputs

        self.progress.phase("linking the tuned model")
        manifest = _export(model, lowered, objects, work, self.target, facts.versions())
        inputs = model_inputs(model.inputs, model.recipe, self.config.search.seed)
        untuned = None
        if "untuned" in self.config.baselines.models and not self.interrupted():
            self.progress.phase("compiling untuned TVM for comparison")
            untuned = _untuned(model, work, self.target)
        entrants = _entrants(self.config, model, work / "export" / "model.so", untuned, self.target.threads)
        if self.interrupted():
            entrants = [e for e in entrants if e.name in (TUNED, UNTUNED, "onnxruntime", "torch")]
        budget = _CONTEST_INTERRUPTED_S if self.interrupted() else _CONTEST_S[self.config.search.effort]
        self.progress.phase("verifying and comparing whole models")
        contest = compete(
            entrants,
            ("onnxruntime", "torch"),
            inputs,
            work,
            self.target.threads,
            budget,
            self.config.search.seed,
            self.progress.message,
        )
        self._check_original_weights(lowered, objects, work, contest)
        keep = contest.verified and self.config.export.enabled and not facts.slower_than_untuned(contest)
        if not keep:
            reason = "it is slower than untuned TVM" if contest.verified else "its outputs are not verified"
            contest.notes.append(
                "not exported: " + (reason if self.config.export.enabled else "export.enabled is false")
            )
            return contest, None
        _publish(work / "export", self.folder / "export")
        return contest, manifest

    def _check_original_weights(
        self, lowered: Lowered, objects: Mapping[str, Any], work: Path, contest: Contest
    ) -> None:
        """The same kernels with the model's own weights, against the outputs that onnx ships."""
        import numpy as np

        from tuner.endtoend import run_once
        from tuner.graph import assemble
        from tuner.importers import original_check
        from tuner.measure.cpu import check_outputs

        name = self.config.model.source.removeprefix("onnx:")
        shipped = re.fullmatch(r"light_\w+", name) and self.config.model.batch == 1 and not self.config.model.inputs
        if not shipped or self.config.model.weights != "random" or self.interrupted():
            return
        self.progress.phase("checking the original weights against the shipped outputs")
        inputs, expected, rtol, atol = original_check(name)
        original = dataclasses.replace(self.config, model=dataclasses.replace(self.config.model, weights="original"))
        _, [twin] = _lowered(original, self.target, self.progress, only=lowered.config)
        if {t.key for t in twin.tasks} != {t.key for t in lowered.tasks}:
            contest.notes.append(
                "original weights give other kernels (constants fold differently); not checked with them"
            )
            return
        library = work / "original.so"
        assemble(twin, {k: o for k, o in objects.items() if o is not None}, _tvm_target(self.target)).export_library(
            str(library)
        )
        outputs = run_once(library, [np.asarray(i) for i in inputs], work, self.target.threads)
        if isinstance(outputs, str):
            contest.verified = False
            contest.notes.append(f"with the original weights the tuned model fails: {outputs}")
            return
        check = check_outputs(outputs, expected, rtol, atol)
        contest.verified = contest.verified and check.ok
        with_own = "with its original weights the tuned model"
        contest.notes.append(
            f"{with_own} gives the outputs that onnx ships (max abs error {check.max_abs_error:.3g})"
            if check.ok
            else f"{with_own} differs from the outputs that onnx ships: {check.reason}"
        )

    def _kernel_baselines(self, found: SearchResult) -> dict[str, dict[str, float]]:
        """PyTorch's time for each kernel that has a counterpart there."""
        from tuner.measure.contest import thread_env
        from tuner.worker import Child, ChildDied, ChildError, ChildTimeout

        if not self.config.baselines.kernels or self.interrupted():
            return {}
        self.progress.phase("timing PyTorch's kernels")
        counterparts = [task for task in found.lowered.tasks if task.workload.origin]
        each_s = min(0.5, _CERTIFY_S[self.config.search.effort] / (2 * max(len(counterparts), 1)))
        policy = dataclasses.asdict(
            dataclasses.replace(RANK, max_time_s=each_s, min_time_s=min(RANK.min_time_s, each_s))
        )
        times: dict[str, dict[str, float]] = {}
        settings = {"threads": self.target.threads, "runner": "tuner.measure.cpu:CpuRunner"}
        with Child("tuner.baselines.kernels:KernelHost", settings, env=thread_env(self.target.threads)) as child:
            for task in counterparts:
                if self.interrupted():
                    break
                try:
                    answer = child.call("time", 60.0, origin=dict(task.workload.origin), policy=policy)
                except ChildError as error:
                    self.notes.append(f"PyTorch's {task.name} was not timed: {str(error)[:200]}")
                    continue
                except (ChildDied, ChildTimeout) as error:
                    self.notes.append(f"PyTorch's kernels were not all timed: {str(error)[:200]}")
                    break
                if answer is not None:
                    times[task.key] = {answer["name"]: answer["median_s"]}
        return times

    # --- the end ----------------------------------------------------------------------------------

    def _report(self, facts: RunFacts, store: SqlStore) -> Outcome:
        from tuner import report
        from tuner.report import summary as summary_file

        self.progress.phase("writing the report")
        if facts.manifest is not None:
            facts.manifest["path"] = "export"
        summary = summarize(facts)
        summary_file.save(self.folder, summary)
        report.render(self.folder, _records_of(facts, store), self.config.report.formats)
        lines = [*facts.headline(summary), f"report: {self.folder / 'report.html'}"]
        if facts.manifest is not None:
            lines.append(f"export: {self.folder / 'export'}")
        return Outcome(self.folder, 130 if self.interrupted() else 0, lines)


def _records_of(facts: RunFacts, store: SqlStore) -> list[Record]:
    """All records that the run's tasks rest on, those of earlier runs first."""
    found: list[Record] = []
    for key in facts.found.sessions:
        found.extend(store.read(scope=facts.ledger.scope, task_key=key))
    return found


# --- searching ------------------------------------------------------------------------------------


class _Searcher:
    """Makes sessions with what is known of their tasks, and runs the phases of the search."""

    def __init__(
        self,
        run: _Run,
        store: SqlStore,
        builder: LocalBuilder,
        bench: KernelBench,
        work: Path,
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
        self._work = work
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
        (work / "references").mkdir(exist_ok=True)

    def search(self, variants: list[Lowered]) -> SearchResult:
        from tuner.search_phase import Budget, SearchPhase

        search = self._config.search
        every = {task.key: task for lowered in variants for task in lowered.tasks}
        self._run.progress.phase(f"searching {len(every)} tasks, budget {search.time_budget_s:.0f} s")
        began = time.monotonic()
        sessions = {key: self._session(task) for key, task in every.items()}
        left = search.time_budget_s - self._known_cost_s
        if left < max(5.0, 0.05 * search.time_budget_s):
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
        if found.stopped_by == "time budget" and left == 0.0:
            found.stopped_by = "time budget, spent in earlier runs"
        late = began + left + 0.02 * search.time_budget_s
        self._run.progress.phase("ranking the finalists")
        for session in found.sessions.values():
            session.rank(lambda: self._run.interrupted() or (left > 0 and time.monotonic() > late))
        return found

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
        self._known_trials += session.trials
        return session


@dataclass(frozen=True)
class _Features:
    """The builder's feature rows for one task, as a Featurizer."""

    builder: LocalBuilder
    task: Task

    def rows(self, candidates: Any) -> Any:
        return self.builder.features(self.task, candidates)


# --- pieces ---------------------------------------------------------------------------------------


def _lowered(
    config: RunConfig, target: targets.ResolvedTarget, progress: Progress, only: Any = None
) -> tuple[ImportedModel, list[Lowered]]:
    """The imported model, and its lowered variants, one for each graph configuration."""
    from kernels.space import vector_lanes
    from tuner import importers
    from tuner.graph import GraphConfig, clean, lower, preferred_layout

    progress.phase(f"importing {config.model.source}")
    model = importers.load(
        config.model.source, config.model.batch, config.model.inputs, config.model.weights, config.search.seed
    )
    tvm_target = _tvm_target(target)
    cleaned = clean(model.module)
    lanes = vector_lanes(tvm_target)
    auto = preferred_layout(lanes) if target.kind == "llvm" else "NCHW"
    layouts = dict.fromkeys(auto if name == "auto" else name for name in config.passes.layouts)
    wanted = [only] if only is not None else [
        GraphConfig(layout, depth) for layout in layouts for depth in config.passes.fusion_depths
    ]  # fmt: skip
    progress.phase(f"cutting {model.name} into tasks")
    return model, [lower(cleaned, graph, tvm_target) for graph in wanted]


def _tvm_target(target: targets.ResolvedTarget) -> Any:
    from tvm.target import Target

    return Target(json.loads(target.text))


def _export(
    model: ImportedModel, lowered: Lowered, objects: Mapping[str, Any], folder: Path, target: targets.ResolvedTarget,
    versions: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Link the model and lay it out as a deployable folder under `folder`/export. Returns the manifest."""
    from tuner.export import library
    from tuner.graph import assemble, output_specs

    executable = assemble(lowered, {k: o for k, o in objects.items() if o is not None}, _tvm_target(target))
    return library.export(executable, folder, model, output_specs(lowered), target.text, target.threads, versions)


def _rebuild_export(
    config: RunConfig,
    target: targets.ResolvedTarget,
    folder: Path,
    winners: Mapping[str, str],
    summary: Mapping[str, Any],
) -> Path:
    from kernels.passes import PASSES
    from kernels.space import Candidate
    from tuner.build import LocalBuilder
    from tuner.protocols import Artifact

    model, variants = _lowered(config, target, Progress())
    lowered = next((v for v in variants if {t.key for t in v.tasks} >= set(winners)), None)
    if lowered is None:
        raise UserError(f"{folder.name}: its kernels are not those of the model any more", "run it again")
    work = folder / _WORK
    builder = LocalBuilder(target.text, work / "kernels", environment.usable_threads(), config.measure.build_timeout_s)
    objects: dict[str, Any] = {}
    try:
        for task in lowered.tasks:
            if task.key in winners:
                builder.space(task, tuple(PASSES))
                [built] = builder.build(task, [Candidate.from_text(winners[task.key])])
                if not isinstance(built, Artifact):
                    raise UserError(
                        f"{folder.name}: {task.name} does not build any more: {built.reason}", "run it again"
                    )
                objects[task.key] = (built.entry, built.path.with_suffix(".o"))
        _export(model, lowered, objects, work, target, summary["environment"].get("versions", {}))
        _publish(work / "export", folder / "export")
    finally:
        builder.close()
        shutil.rmtree(work, ignore_errors=True)
    return folder / "export"


def _publish(made: Path, final: Path) -> None:
    """Move a finished export into place, an earlier one out of the way first."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.replace(final, old)
    os.replace(made, final)
    shutil.rmtree(old, ignore_errors=True)


def _untuned(model: ImportedModel, work: Path, target: targets.ResolvedTarget) -> Path:
    from tuner.graph import build_untuned

    path = work / "untuned.so"
    build_untuned(model.module, _tvm_target(target)).export_library(str(path))
    return path


def _entrants(
    config: RunConfig, model: ImportedModel, tuned: Path, untuned: Path | None, threads: int
) -> list[Entrant]:
    from tuner.endtoend import TUNED, UNTUNED, Entrant

    host = "tuner.measure.model:ModelHost"
    found = [Entrant(TUNED, host, {"library": str(tuned)})]
    for name in config.baselines.models:
        if name == "untuned":
            if untuned is not None:
                found.append(Entrant(UNTUNED, host, {"library": str(untuned)}))
            continue
        provider = "tuner.importers:onnx_bytes" if name == "onnxruntime" else "tuner.importers:torch_module"
        settings = {"baseline": name, "recipe": dict(model.recipe), "threads": threads, "provider": provider}
        found.append(Entrant(name, "tuner.baselines.host:Host", settings))
    return found


def _ceilings(threads: int) -> dict[str, Any]:
    from tuner.measure.contest import thread_env
    from tuner.worker import Child

    with Child("tuner.measure.ceilings:Ceilings", {"threads": threads}, env=thread_env(threads)) as child:
        found: dict[str, Any] = child.call("measure", 120.0)
    return found


def _store(config: RunConfig) -> Any:
    """A context manager around the record store."""
    from contextlib import closing

    from tuner.store import SqlStore

    return closing(SqlStore(config.measure.database))


def _run_folder(config: RunConfig, resume: str | None) -> Path:
    """A new folder for this run, or that of the run to resume. Raises OutputError or UserError."""
    out = Path(config.out)
    if resume is not None:
        return out / resume
    slug = re.sub(r"[^a-z0-9]+", "-", config.model.source.lower()).strip("-")[-40:].strip("-")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = out / f"{stamp}-{slug}{f'-{attempt}' if attempt else ''}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be made: {error.strerror}", "choose another folder with --out"
            ) from error
        return folder
    raise OutputError(f"{out}: a hundred runs began in this second", "try again")


def _write(path: Path, text: str) -> None:
    from tuner.report.summary import write_aside

    write_aside(path, text.encode())
