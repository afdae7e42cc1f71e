"""The whole model on any device: assemble it, verify it, compare it with its baselines, and export it."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.passes import PASSES
from kernels.space import Candidate
from tuner import environment, files
from tuner.baselines import narrower_than_float32
from tuner.baselines.original import FAST, PRECISE
from tuner.commands import accuracy, symbol
from tuner.commands.fallback import Fallback, Parts
from tuner.commands.prepare import RunContext, lowered, scratch
from tuner.commands.within import Rehearsal, Starting
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.device import Assembly, BaselineTiming, Device, Samples
from tuner.devices.target import ResolvedTarget
from tuner.errors import ModelError, UserError
from tuner.export import library
from tuner.graph import input_specs, output_specs, tuned_parts
from tuner.importers import input_sets, original_check
from tuner.measure import models, quality
from tuner.measure.entries import EXACT_WHOLE
from tuner.measure.exact import ExactRun
from tuner.measure.models import EXACT, PREPARE_S, TUNED, UNTUNED, EntrySpec, Mend, ModelComparison, Timing
from tuner.models import ImportedModel
from tuner.outputs import check_outputs
from tuner.progress import Progress
from tuner.protocols import Artifact, Builder, Task
from tuner.records import Label
from tuner.tuning.total import Phase

if TYPE_CHECKING:
    from tuner.graph import Lowered
    from tuner.tuning.tune import SearchResult

_TORCH_S = 4.0
"""Within less than this no kernel of a framework is timed: its child only starts."""

_LAST = ("torch_compile", "torch_max_autotune")
"""Of the baselines those that take longest to start: last, where time is short."""

_UNTUNED_SHARE = 0.5
"""Of the time that a total budget has left for starting baselines, the most that untuned TVM may take."""


def kernel_baselines(run: RunContext, device: Device, result: SearchResult) -> Samples:
    """Samples of frameworks' kernels (seconds per call), by task key and baseline, for the model's tasks."""
    if not run.config.baselines.kernels or run.interrupted():
        return {}
    seconds = run.total.allowed_s(Phase.KERNEL_BASELINES, run.settings.kernel_baselines_s)
    if run.total.limited and seconds < _TORCH_S:
        run.notes.append("the kernels of frameworks were not timed: no time was left for them")
        return {}
    over = run.total.stop_after(seconds) if run.total.limited else lambda: False
    timing = BaselineTiming(seconds, lambda: run.interrupted() or over(), run.notes.append)
    return device.kernel_baselines(result.lowered.tasks, timing)


def part(device: Device, result: SearchResult, key: str, candidate: Candidate) -> Any:
    """What a task's candidate is in the model; None where it builds no more."""
    session = result.sessions[key]
    return device.assembly.part(
        session.task, session.space, candidate, functools.partial(session.artifact_of, candidate)
    )


def parts(device: Device, result: SearchResult, winners: Mapping[str, Candidate]) -> Parts:
    """The part of each winner in the model."""
    return {key: part(device, result, key, candidate) for key, candidate in winners.items()}


def whole_model(
    run: RunContext, device: Device, model: ImportedModel, graph: Lowered, fallback: Fallback,
    versions: Mapping[str, str], rehearsal: Rehearsal,
) -> tuple[ModelComparison | None, dict[str, Any] | None]:  # fmt: skip
    """Put the winners into the model, check it, time it and its baselines, and export it if `why_not_exported` says "".

    Returns what the comparison found, where there is hardware for one, and the export's manifest or None.
    """
    run.progress.phase("putting the tuned model together")
    assembly, work = device.assembly, run.work
    put_together = _Together(run, device, model, graph, fallback, versions)
    put_together.export()
    if not device.runs_models:
        run.notes.append("not exported: without its device the model's outputs are not verified")
        return None, None
    run.total.reserved_s = rehearsal.verifying_s
    libraries = {TUNED: to_run(model, work, assembly.form)}
    if UNTUNED in run.config.baselines.models and not run.interrupted():
        needed_s = rehearsal.assemble_s + rehearsal.answer_s
        if run.total.limited and needed_s > _UNTUNED_SHARE * run.total.allowed_s(Phase.STARTING, 0.0):
            run.notes.append(f"untuned TVM is not compared: it takes {needed_s:.0f} s, and less is left for it")
        else:
            run.progress.phase("compiling untuned TVM for comparison")
            executables = assembled(model, graph, assembly, None)
            export(model, graph, executables, work / "untuned", run.target, versions, assembly)
            libraries[UNTUNED] = to_run(model, work / "untuned", assembly.form)
    entries = device.entries(model, libraries, run.config.baselines.models)
    comparison = compare(
        run, model, entries, references_of(device, model), rehearsal.exact, put_together.mend, rehearsal.whole
    )
    tuned = next(entry for entry in entries if entry.name == TUNED)
    accuracy.judge(run, model, tuned, entries, rehearsal, comparison)
    check_original_weights(run, device, model, graph, put_together.available, comparison, 2.0 * rehearsal.end_s)
    behind_symbol = symbol.has_one(model, assembly)
    why_not = why_not_exported(run, comparison, behind_symbol)
    if not why_not and behind_symbol:
        why_not, words = symbol.put_behind(run, model, graph, put_together.available)
        comparison.notes += words
    if why_not:
        comparison.notes.append(f"not exported: {why_not}")
        return comparison, None
    files.replace_folder(work / "export", run.folder / "export")
    return comparison, put_together.manifest


class _Together:
    """The tuned model, put together and written as an export, and put together otherwise where it is wrong."""

    def __init__(
        self, run: RunContext, device: Device, model: ImportedModel, graph: Lowered, fallback: Fallback,
        versions: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._run, self._device, self._model, self._graph = run, device, model, graph
        self._fallback, self._versions = fallback, versions
        self.manifest: dict[str, Any] = {}

    @property
    def available(self) -> dict[str, Any]:
        """The parts that there are."""
        return {key: part for key, part in self._fallback.parts.items() if part is not None}

    def export(self) -> None:
        """Write the model with the fallback's parts."""
        self.manifest = self._written(self.available, self._run.work)

    def _written(self, parts: Parts, folder: Path) -> dict[str, Any]:
        assembly = self._device.assembly
        executables = assembled(self._model, self._graph, assembly, parts)
        return export(self._model, self._graph, executables, folder, self._run.target, self._versions, assembly)

    def mend(self, fault: models.Fault) -> EntrySpec | None:
        """The tuned model without the kernels that make it wrong; None where it stays wrong. See `models.Mend`."""
        self._run.progress.phase("the tuned model is wrong: looking for the kernel that makes it so")
        folder = self._run.work / "mended"

        def fault_of(parts: Parts) -> str:
            self._written({key: part for key, part in parts.items() if part is not None}, folder)
            return fault(self._tuned(folder))

        if not self._fallback.winners or not self._fallback.mend(fault_of):
            return None
        self.export()
        return self._tuned(self._run.work)

    def _tuned(self, folder: Path) -> EntrySpec:
        library = to_run(self._model, folder, self._device.assembly.form)
        return next(e for e in self._device.entries(self._model, {TUNED: library}, ()) if e.name == TUNED)


def compare(
    run: RunContext, model: ImportedModel, entries: Sequence[EntrySpec], references: Sequence[str],
    exact: ExactRun | None = None, mend: Mend | None = None, whole: ExactRun | None = None,
) -> ModelComparison:  # fmt: skip
    """Check the tuned model on all sets of inputs, and time all entries interleaved on those of the first."""
    seed, threads = run.config.search.seed, run.target.threads
    sets = input_sets(model.inputs, model.model_spec, seed)
    if run.config.model.weights == "random" and any(one.expected is not None for one in sets):
        run.notes.append("the outputs in model.data are not looked at: those of random weights are others")
        sets = [dataclasses.replace(one, expected=None) for one in sets]
    entries = [entry for entry in entries if entry.name not in (EXACT, EXACT_WHOLE)]
    if run.interrupted():
        entries = [e for e in entries if e.name in (TUNED, UNTUNED, *references)]
    if run.total.limited:  # what is ready soonest, and what verifies, comes first
        order = {TUNED: 0, **dict.fromkeys(references, 1), UNTUNED: 3, **dict.fromkeys(_LAST, 4)}
        entries.sort(key=lambda entry: order.get(entry.name, 2))
    run.progress.phase("verifying and comparing whole models")
    probe = resolve.kind_of(run.target).state_probe(threads, Path(run.config.out))
    try:
        return models.compare_models(
            entries, references, sets, run.work, threads, _timing(run, references, exact), seed,
            run.progress.message, probe, exact, mend, whole, model.reduced is not None,
        )  # fmt: skip
    finally:
        if probe is not None:
            probe.close()


def references_of(device: Device, model: ImportedModel) -> tuple[str, ...]:
    """The entries that compute what the tuned model does: of a quantized one those that are quantized, too."""
    if model.reduced is None or model.reduced.whole is None:
        return device.references
    narrower = narrower_than_float32(model.reduced)
    return tuple(narrower[name] for name in device.references if name in narrower)


def _timing(run: RunContext, references: Sequence[str], exact: ExactRun | None) -> Timing:
    """How long the comparison may take: as the effort says, or what a total budget has left for it."""
    settings, total = run.settings, run.total
    usual_s = settings.compare_s
    if run.interrupted():
        usual_s = settings.compare_interrupted_s
    if run.replay is not None:
        usual_s = settings.compare_replayed_s
    needed = references if exact is None or exact.missing else ()
    start_s = Starting(total, needed) if total.limited else lambda name: PREPARE_S
    rounds = settings.compare_rounds
    return Timing(lambda: total.allowed_s(Phase.COMPARISON, usual_s), rounds, start_s, total.limited, run.interrupted)


def why_not_exported(run: RunContext, comparison: ModelComparison, behind_symbol: bool) -> str:
    """The reason, or "" where the tuned model may be exported. One that goes behind a function's symbol is timed there,
    in the caller's memory and beside the original: its time as a model says nothing of that."""
    if not run.config.export.enabled:
        return "export.enabled is false"
    if not comparison.verified:
        return "its outputs are not verified"
    if comparison.quality is not None and comparison.misses_accuracy:
        return f"it misses its accuracy: {quality.in_words(comparison.quality.to_json())}"
    if behind_symbol:
        return ""
    _, result = comparison.result.main(TUNED, UNTUNED)
    if result.verdict(TUNED, UNTUNED).label is Label.SLOWER:
        return "it is slower than untuned TVM"
    for name in (PRECISE, FAST):
        if name in comparison.settings:
            _, result = comparison.result.main(TUNED, name)
            if result.verdict(TUNED, name).label is Label.SLOWER:
                return "it is slower than the original"
    return ""


def check_original_weights(
    run: RunContext,
    device: Device,
    model: ImportedModel,
    graph: Lowered,
    parts: Parts,
    comparison: ModelComparison,
    needed_s: float,
) -> None:
    """Check the same kernels with the model's original weights against the outputs that onnx ships, where it does, and
    where so many seconds are left."""
    name = run.config.model.source.removeprefix("onnx:")
    shipped = re.fullmatch(r"light_\w+", name) and run.config.model.batch in (None, 1) and not run.config.model.inputs
    if not shipped or run.config.model.weights != "random" or run.interrupted() or model.reduced is not None:
        return
    if run.total.free_s < needed_s:
        comparison.notes.append("not checked with the original weights: no time was left for it")
        return
    run.progress.phase("checking the original weights against the shipped outputs")
    inputs, expected, rtol, atol = original_check(name)
    original = dataclasses.replace(run.config, model=dataclasses.replace(run.config.model, weights="original"))
    _, [original_choices] = lowered(original, run.target, run.progress, only=graph.config)
    original_graph = original_choices.with_tasks({t.key for t in graph.tasks})
    if original_graph is None:
        comparison.notes.append(
            "original weights give other kernels (constants fold differently); not checked with them"
        )
        return
    path = (run.work / "original").with_suffix(Path(device.assembly.form.library).suffix)
    device.assembly.assemble(original_graph, parts).export_library(str(path))
    entry = next(e for e in device.entries(model, {TUNED: path}, ()) if e.name == TUNED)
    outputs = models.answer_once(entry, [np.asarray(i) for i in inputs], run.work, run.target.threads)
    if isinstance(outputs, str):
        comparison.verified = False
        comparison.notes.append(f"with the original weights the tuned model fails: {outputs}")
        return
    check = check_outputs(outputs, expected, rtol, atol)
    comparison.verified = check.ok and comparison.verified
    subject = "with its original weights the tuned model"
    comparison.notes.append(
        f"{subject} gives the outputs that onnx ships (max abs error {check.max_abs_error:.3g})"
        if check.ok
        else f"{subject} differs from the outputs that onnx ships: {check.reason}"
    )


def assembled(model: ImportedModel, graph: Lowered, assembly: Assembly, parts: Mapping[str, Any] | None) -> list[Any]:
    """The model put together from `parts`, or as TVM compiles it by itself where they are None: an executable for each
    of its tuned parts, of which a model without a plan is one. Raises ModelError for a plan that this device cannot
    run."""
    if model.plan is not None and assembly.runtime != "cpu":
        raise ModelError(model.source, "a model of which a part stays with ONNX Runtime is put together for CPUs only")
    pairs = tuned_parts(model, graph)
    return [assembly.untuned(m, g) if parts is None else assembly.assemble(g, parts) for m, g in pairs]


def export(
    model: ImportedModel, graph: Lowered, executables: Sequence[Any], folder: Path, target: ResolvedTarget,
    versions: Mapping[str, str], assembly: Assembly,
) -> dict[str, Any]:  # fmt: skip
    """Write an assembled model as a deployable folder `folder`/export. Returns the manifest."""
    if model.plan is None:
        [executable] = executables
        return library.export(
            executable,
            folder,
            model,
            output_specs(graph),
            target.text,
            target.threads,
            versions,
            assembly.runtime,
            assembly.form,
            resolve.caveats_of(target).model.words,
        )
    specs = [(input_specs(part), output_specs(part)) for _, part in tuned_parts(model, graph)]
    return library.export_parts(executables, specs, folder, model, target.text, target.threads, versions)


def to_run(model: ImportedModel, folder: Path, form: library.Form = library.NATIVE) -> Path:
    """What `Device.entries` is given of a model that was exported to `folder`."""
    exported = folder / library.FOLDER
    return exported / form.library if model.plan is None else exported


def rebuild_export(
    config: RunConfig,
    target: ResolvedTarget,
    folder: Path,
    winners: Mapping[str, str],
    versions: Mapping[str, str],
) -> Path:
    """Build a finished run's winners again and export the model. `winners` are candidates' texts by task key.

    Returns the export's folder. Raises UserError where the model or a kernel is not what it was.
    """
    kind = resolve.kind_of(target)
    model, variants = lowered(config, target, Progress(), folder=folder)
    graph = next((g for v in variants if (g := v.with_tasks(set(winners))) is not None), None)
    if graph is None:
        raise UserError(f"{folder.name}: its kernels are not those of the model any more", "run it again")
    work = scratch(folder)
    assembly = kind.assembly(target)
    builder = kind.builder(target.text, work / "kernels", environment.usable_threads(), config.measure.build_timeout_s)
    try:
        rebuilt = {
            task.key: _rebuilt(builder, assembly, task, Candidate.from_text(winners[task.key]), folder.name)
            for task in graph.tasks
            if task.key in winners
        }
        available = {key: made for key, made in rebuilt.items() if made is not None}
        executables = assembled(model, graph, assembly, available)
        export(model, graph, executables, work, target, versions, assembly)
        if symbol.has_one(model, assembly):
            overwritten = symbol.overwritten(graph, available, model.model_spec)
            why_not, _ = symbol.write(work / "export", model.model_spec, target.threads, overwritten)
            if why_not:
                raise UserError(f"{folder.name}: {why_not}", "run it again")
        files.replace_folder(work / "export", folder / "export")
    finally:
        builder.close()
        shutil.rmtree(work, ignore_errors=True)
    return folder / "export"


def _rebuilt(builder: Builder, assembly: Assembly, task: Task, candidate: Candidate, run_id: str) -> Any:
    """The part of what a run put into the model. Raises UserError where it builds no more."""
    space = builder.space(task, tuple(PASSES))
    part = assembly.part(task, space, candidate, functools.partial(_build, builder, task, candidate))
    if part is None and not candidate.is_default:
        raise UserError(f"{run_id}: {task.name} does not build any more", "run it again")
    return part


def _build(builder: Builder, task: Task, candidate: Candidate) -> Artifact | None:
    [built] = builder.build(task, [candidate])
    return built if isinstance(built, Artifact) else None
