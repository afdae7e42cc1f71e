"""The whole model: linked, exported, verified, and compared with its rivals."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import environment, files
from tuner.commands.prepare import RunContext, lowered, scratch, tvm_target
from tuner.config import RunConfig
from tuner.devices.resolve import ResolvedTarget
from tuner.errors import UserError
from tuner.progress import Progress
from tuner.protocols import RANK, ImportedModel, Task
from tuner.records import Label

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace
    from tuner.devices.builder import LocalBuilder
    from tuner.graph import Lowered
    from tuner.measure.models import EntrySpec, ModelComparison
    from tuner.tuning.phase import SearchResult

_CONTEST_S = {"quick": 8.0, "standard": 40.0, "thorough": 90.0}
_CONTEST_INTERRUPTED_S = 8.0
_CONTEST_REPLAY_S = 0.5
_KERNEL_BASELINES_S = {"quick": 6.0, "standard": 50.0, "thorough": 150.0}
"""Seconds by effort: for comparing whole models, and for all of PyTorch's kernels together."""


def whole_model(
    run: RunContext, model: ImportedModel, graph: Lowered, objects: Mapping[str, Any], versions: Mapping[str, str]
) -> tuple[ModelComparison, dict[str, Any] | None]:
    """Link the winners into the model, check and time it beside its rivals, and export it if it is right and faster.

    Returns what the comparison found, and the export's manifest or None. `objects` maps workload keys to
    (symbol, object file), or None for a kernel that could not be had.
    """
    from tuner.graph import assemble

    run.progress.phase("linking the tuned model")
    work = run.work
    target = tvm_target(run.target)
    kept = {k: o for k, o in objects.items() if o is not None}
    manifest = export(model, graph, assemble(graph, kept, target), work, run.target, versions)
    plain = None
    if "untuned" in run.config.baselines.models and not run.interrupted():
        run.progress.phase("compiling untuned TVM for comparison")
        plain = untuned(model, work, run.target)
    rivals = entrants(run.config, model, work / "export" / "model.so", plain, run.target.threads)
    found = contest(run, model, rivals, ("onnxruntime", "torch"))
    check_original_weights(
        run, graph, lambda original_weights_model: assemble(original_weights_model, kept, target), found
    )
    if why_not := why_not_exported(run, found):
        found.notes.append(f"not exported: {why_not}")
        return found, None
    files.replace_folder(work / "export", run.folder / "export")
    return found, manifest


def contest(
    run: RunContext, model: ImportedModel, rivals: Sequence[EntrySpec], references: Sequence[str]
) -> ModelComparison:
    """Check the tuned model against `references` on seeded inputs, and time all in turn."""
    from tuner.importers import model_inputs
    from tuner.measure.models import TUNED, UNTUNED, compare_models

    inputs = model_inputs(model.inputs, model.model_spec, run.config.search.seed)
    budget = _CONTEST_S[run.config.search.effort]
    if run.interrupted():
        rivals = [e for e in rivals if e.name in (TUNED, UNTUNED, *references)]
        budget = _CONTEST_INTERRUPTED_S
    if run.replay is not None:
        budget = _CONTEST_REPLAY_S
    run.progress.phase("verifying and comparing whole models")
    seed, threads = run.config.search.seed, run.target.threads
    return compare_models(rivals, references, inputs, run.work, threads, budget, seed, run.progress.message)


def why_not_exported(run: RunContext, found: ModelComparison) -> str:
    """The reason, or "" where the tuned model may be exported."""
    from tuner.measure.models import TUNED, UNTUNED

    if not run.config.export.enabled:
        return "export.enabled is false"
    if not found.verified:
        return "its outputs are not verified"
    if found.result.verdict(TUNED, UNTUNED).label is Label.SLOWER:
        return "it is slower than untuned TVM"
    return ""


def check_original_weights(
    run: RunContext, graph: Lowered, build: Callable[[Lowered], Any], found: ModelComparison, device: str = "cpu"
) -> None:
    """The same kernels with the model's own weights, against the outputs that onnx ships. `build` puts them in."""
    import numpy as np

    from tuner.importers import original_check
    from tuner.measure.models import run_once
    from tuner.outputs import check_outputs

    name = run.config.model.source.removeprefix("onnx:")
    shipped = re.fullmatch(r"light_\w+", name) and run.config.model.batch == 1 and not run.config.model.inputs
    if not shipped or run.config.model.weights != "random" or run.interrupted():
        return
    run.progress.phase("checking the original weights against the shipped outputs")
    inputs, expected, rtol, atol = original_check(name)
    original = dataclasses.replace(run.config, model=dataclasses.replace(run.config.model, weights="original"))
    _, [original_weights_model] = lowered(original, run.target, run.progress, only=graph.config)
    if {t.key for t in original_weights_model.tasks} != {t.key for t in graph.tasks}:
        found.notes.append("original weights give other kernels (constants fold differently); not checked with them")
        return
    library = run.work / "original.so"
    build(original_weights_model).export_library(str(library))
    outputs = run_once(library, [np.asarray(i) for i in inputs], run.work, run.target.threads, device)
    if isinstance(outputs, str):
        found.verified = False
        found.notes.append(f"with the original weights the tuned model fails: {outputs}")
        return
    check = check_outputs(outputs, expected, rtol, atol)
    found.verified = check.ok and found.verified
    with_own = "with its original weights the tuned model"
    found.notes.append(
        f"{with_own} gives the outputs that onnx ships (max abs error {check.max_abs_error:.3g})"
        if check.ok
        else f"{with_own} differs from the outputs that onnx ships: {check.reason}"
    )


def kernel_baselines(run: RunContext, found: SearchResult) -> dict[str, dict[str, list[float]]]:
    """PyTorch's samples (seconds per call) for each kernel that has a counterpart there."""
    from tuner.process.pinning import thread_env
    from tuner.process.worker import Child

    if not run.config.baselines.kernels or run.interrupted():
        return {}
    run.progress.phase("timing PyTorch's kernels")
    counterparts = [task for task in found.lowered.tasks if task.workload.origin]
    each_s = min(0.5, _KERNEL_BASELINES_S[run.config.search.effort] / (2 * max(len(counterparts), 1)))
    policy = dataclasses.asdict(dataclasses.replace(RANK, max_time_s=each_s, min_time_s=min(RANK.min_time_s, each_s)))
    settings = {"threads": run.target.threads, "runner": "tuner.devices.cpu.runner:CpuRunner"}
    with Child("tuner.baselines.kernels:KernelBaselineWorker", settings, env=thread_env(run.target.threads)) as child:
        answers = time_each(
            run, counterparts, lambda task: child.call("time", 60.0, origin=dict(task.workload.origin), policy=policy)
        )
    return {key: {answer["name"]: answer["samples_s"]} for key, answer in answers.items()}


def time_each(run: RunContext, tasks: Sequence[Task], ask: Callable[[Task], Any]) -> dict[str, Any]:
    """What PyTorch's child answers for each task that it has a counterpart of, by task key. One that cannot be timed is
    noted; when the child is gone, or the run interrupted, that was all."""
    from tuner.process.worker import ChildDied, ChildError, ChildTimeout

    answers: dict[str, Any] = {}
    for task in tasks:
        if run.interrupted():
            break
        try:
            answer = ask(task)
        except ChildError as error:
            run.notes.append(f"PyTorch's {task.name} was not timed: {str(error)[:200]}")
            continue
        except (ChildDied, ChildTimeout) as error:
            run.notes.append(f"PyTorch's kernels were not all timed: {str(error)[:200]}")
            break
        if answer is not None:
            answers[task.key] = answer
    return answers


def export(
    model: ImportedModel, graph: Lowered, executable: Any, folder: Path, target: ResolvedTarget,
    versions: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Lay an assembled model out as a deployable folder under `folder`/export. Returns the manifest."""
    from tuner.export import library
    from tuner.graph import output_specs

    device = "cuda" if target.kind == "cuda" else "cpu"
    return library.export(executable, folder, model, output_specs(graph), target.text, target.threads, versions, device)


def rebuild_export(
    config: RunConfig,
    target: ResolvedTarget,
    folder: Path,
    winners: Mapping[str, str],
    summary: Mapping[str, Any],
) -> Path:
    from kernels.passes import PASSES
    from kernels.space import Candidate
    from tuner.devices.builder import LocalBuilder
    from tuner.graph import assemble
    from tuner.graph.assemble import assemble_gpu

    model, variants = lowered(config, target, Progress())
    graph = next((v for v in variants if {t.key for t in v.tasks} >= set(winners)), None)
    if graph is None:
        raise UserError(f"{folder.name}: its kernels are not those of the model any more", "run it again")
    work = scratch(folder)
    builder = LocalBuilder(target.text, work / "kernels", environment.usable_threads(), config.measure.build_timeout_s)
    parts: dict[str, Any] = {}
    try:
        for task in graph.tasks:
            if task.key in winners:
                space = builder.space(task, tuple(PASSES))
                candidate = Candidate.from_text(winners[task.key])
                if target.kind == "cuda":
                    parts[task.key] = scheduled(task, space, candidate, target)
                else:
                    parts[task.key] = _object(builder, task, candidate, folder.name)
        put_together = assemble_gpu if target.kind == "cuda" else assemble
        made = put_together(graph, parts, tvm_target(target))
        export(model, graph, made, work, target, summary["environment"].get("packages", {}))
        files.replace_folder(work / "export", folder / "export")
    finally:
        builder.close()
        shutil.rmtree(work, ignore_errors=True)
    return folder / "export"


def _object(builder: LocalBuilder, task: Task, candidate: Candidate, run: str) -> tuple[str, Path]:
    """(symbol, object file) of a winner. Raises UserError."""
    from tuner.protocols import Artifact

    [built] = builder.build(task, [candidate])
    if not isinstance(built, Artifact):
        raise UserError(f"{run}: {task.name} does not build any more: {built.reason}", "run it again")
    return built.entry, built.path.with_suffix(".o")


def scheduled(task: Task, space: DesignSpace, candidate: Candidate, target: ResolvedTarget) -> Any:
    """The scheduled program of a candidate, for a model that is compiled in one module. Raises UserError."""
    from kernels.space import InvalidCandidate, TraceApplier

    try:
        schedule = TraceApplier(task.workload, space, tvm_target(target)).apply(candidate)
    except InvalidCandidate as error:
        raise UserError(f"{task.name} cannot be scheduled any more: {error}", "run it again") from error
    return candidate.passes.on_function(schedule.mod["main"])


def untuned(model: ImportedModel, work: Path, target: ResolvedTarget) -> Path:
    from tuner.graph import build_untuned

    path = work / "untuned.so"
    build_untuned(model.module, tvm_target(target)).export_library(str(path))
    return path


def entrants(
    config: RunConfig, model: ImportedModel, tuned: Path, untuned: Path | None, threads: int
) -> list[EntrySpec]:
    from tuner.measure.models import TUNED, UNTUNED, EntrySpec

    host = "tuner.measure.compiled_model:CompiledModelWorker"
    found = [EntrySpec(TUNED, host, {"library": str(tuned), "threads": threads})]
    for name in config.baselines.models:
        if name == "untuned":
            if untuned is not None:
                found.append(EntrySpec(UNTUNED, host, {"library": str(untuned), "threads": threads}))
            continue
        provider = "tuner.importers:onnx_bytes" if name == "onnxruntime" else "tuner.importers:torch_module"
        settings = {"baseline": name, "model_spec": dict(model.model_spec), "threads": threads, "provider": provider}
        found.append(EntrySpec(name, "tuner.baselines.worker:Host", settings))
    return found
