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
from tuner.baselines.original import FLAGS
from tuner.commands import symbol
from tuner.commands.prepare import RunContext, lowered, scratch
from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.device import Assembly, BaselineTiming, Device, Samples
from tuner.devices.target import ResolvedTarget
from tuner.errors import ModelError, UserError
from tuner.export import library
from tuner.graph import input_specs, output_specs, tuned_parts
from tuner.importers import model_inputs, original_check
from tuner.measure import models
from tuner.measure.models import EXACT, TUNED, UNTUNED, EntrySpec, ModelComparison
from tuner.outputs import check_outputs
from tuner.progress import Progress
from tuner.protocols import Artifact, Builder, ImportedModel, Task
from tuner.records import Label

if TYPE_CHECKING:
    from tuner.graph import Lowered
    from tuner.tuning.tune import SearchResult

Parts = Mapping[str, Any]
"""By workload key, what the model is assembled from; None for a kernel that builds no more."""


def kernel_baselines(run: RunContext, device: Device, result: SearchResult) -> Samples:
    """Samples of frameworks' kernels (seconds per call), by task key and baseline, for the model's tasks."""
    if not run.config.baselines.kernels or run.interrupted():
        return {}
    timing = BaselineTiming(run.settings.kernel_baselines_s, run.interrupted, run.notes.append)
    return device.kernel_baselines(result.lowered.tasks, timing)


def parts(device: Device, result: SearchResult, winners: Mapping[str, Candidate]) -> Parts:
    """The part of each winner in the model."""
    parts_by_key = {}
    for key, candidate in winners.items():
        session = result.sessions[key]
        parts_by_key[key] = device.assembly.part(
            session.task, session.space, candidate, functools.partial(session.artifact_of, candidate)
        )
    return parts_by_key


def whole_model(
    run: RunContext, device: Device, model: ImportedModel, graph: Lowered, parts: Parts, versions: Mapping[str, str]
) -> tuple[ModelComparison | None, dict[str, Any] | None]:
    """Put the winners into the model, check it, time it and its baselines, and export it if `why_not_exported` says "".

    Returns what the comparison found, where there is hardware for one, and the export's manifest or None.
    """
    run.progress.phase("putting the tuned model together")
    assembly, work = device.assembly, run.work
    available = {key: part for key, part in parts.items() if part is not None}
    executables = assembled(model, graph, assembly, available)
    manifest = export(model, graph, executables, work, run.target, versions, assembly)
    if not device.runs_models:
        run.notes.append("not exported: without its device the model's outputs are not verified")
        return None, None
    libraries = {TUNED: to_run(model, work, assembly.form)}
    if UNTUNED in run.config.baselines.models and not run.interrupted():
        run.progress.phase("compiling untuned TVM for comparison")
        executables = assembled(model, graph, assembly, None)
        export(model, graph, executables, work / "untuned", run.target, versions, assembly)
        libraries[UNTUNED] = to_run(model, work / "untuned", assembly.form)
    entries = device.entries(model, libraries, run.config.baselines.models)
    comparison = compare(run, model, entries, device.references)
    check_original_weights(run, device, model, graph, available, comparison)
    why_not = why_not_exported(run, comparison)
    if not why_not and "c" in model.model_spec:
        run.progress.phase("putting the function back behind its symbol")
        why_not, words = symbol.write(work / "export", model.model_spec, run.target.threads)
        comparison.notes += words
    if why_not:
        comparison.notes.append(f"not exported: {why_not}")
        return comparison, None
    files.replace_folder(work / "export", run.folder / "export")
    return comparison, manifest


def compare(
    run: RunContext, model: ImportedModel, entries: Sequence[EntrySpec], references: Sequence[str]
) -> ModelComparison:
    """Check the tuned model on inputs of two seeds, and time all entries interleaved on those of the first."""
    seed, threads, settings = run.config.search.seed, run.target.threads, run.settings
    inputs = model_inputs(model.inputs, model.model_spec, seed)
    more = model_inputs(model.inputs, model.model_spec, seed + 1)
    budget_s = settings.compare_s
    if run.interrupted():
        entries = [e for e in entries if e.name in (TUNED, UNTUNED, EXACT, *references)]
        budget_s = settings.compare_interrupted_s
    if run.replay is not None:
        budget_s = settings.compare_replayed_s
    run.progress.phase("verifying and comparing whole models")
    probe = resolve.kind_of(run.target).state_probe(threads, run.folder.parent)
    try:
        return models.compare_models(
            entries, references, inputs, run.work, threads, budget_s, settings.compare_rounds, seed,
            run.progress.message, probe, more,
        )  # fmt: skip
    finally:
        if probe is not None:
            probe.close()


def why_not_exported(run: RunContext, comparison: ModelComparison) -> str:
    """The reason, or "" where the tuned model may be exported."""
    if not run.config.export.enabled:
        return "export.enabled is false"
    if not comparison.verified:
        return "its outputs are not verified"
    _, result = comparison.result.main(TUNED, UNTUNED)
    if result.verdict(TUNED, UNTUNED).label is Label.SLOWER:
        return "it is slower than untuned TVM"
    for name in FLAGS:
        if name in comparison.settings:
            _, result = comparison.result.main(TUNED, name)
            if result.verdict(TUNED, name).label is Label.SLOWER:
                return "it is slower than the original"
    return ""


def check_original_weights(
    run: RunContext, device: Device, model: ImportedModel, graph: Lowered, parts: Parts, comparison: ModelComparison
) -> None:
    """Check the same kernels with the model's original weights against the outputs that onnx ships, where it does."""
    name = run.config.model.source.removeprefix("onnx:")
    shipped = re.fullmatch(r"light_\w+", name) and run.config.model.batch in (None, 1) and not run.config.model.inputs
    if not shipped or run.config.model.weights != "random" or run.interrupted():
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
    model, variants = lowered(config, target, Progress())
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
        executables = assembled(model, graph, assembly, rebuilt)
        export(model, graph, executables, work, target, versions, assembly)
        if "c" in model.model_spec:
            why_not, _ = symbol.write(work / "export", model.model_spec, target.threads)
            if why_not:
                raise UserError(f"{folder.name}: {why_not}", "run it again")
        files.replace_folder(work / "export", folder / "export")
    finally:
        builder.close()
        shutil.rmtree(work, ignore_errors=True)
    return folder / "export"


def _rebuilt(builder: Builder, assembly: Assembly, task: Task, candidate: Candidate, run_id: str) -> Any:
    """The part of a run's winner. Raises UserError where it builds no more."""
    space = builder.space(task, tuple(PASSES))
    part = assembly.part(task, space, candidate, functools.partial(_build, builder, task, candidate))
    if part is None:
        raise UserError(f"{run_id}: {task.name} does not build any more", "run it again")
    return part


def _build(builder: Builder, task: Task, candidate: Candidate) -> Artifact | None:
    [built] = builder.build(task, [candidate])
    return built if isinstance(built, Artifact) else None
