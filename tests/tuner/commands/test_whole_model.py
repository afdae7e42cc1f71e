"""The whole model on the null device: what it is assembled from, what it is compared with, and when it is exported."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kernels.space import Candidate
from tests import null_device
from tests.contracts.device import tiny_model
from tests.null_device import FASTEST_S, NULL, REFERENCE, UNTUNED_S, Null, NullAssembly
from tests.test_null_device import Ran, config_of, run, store_model
from tuner import config as run_files
from tuner.commands import whole_model as command
from tuner.commands.fallback import Fallback
from tuner.commands.prepare import RunContext, lowered
from tuner.commands.within import Rehearsal
from tuner.config import AccuracyConfig
from tuner.devices.device import BaselineTiming, Samples
from tuner.errors import UserError
from tuner.graph import GraphConfig, Lowered, clean, lower
from tuner.measure.models import TUNED, UNTUNED, EntrySpec, ModelComparison
from tuner.models import ImportedModel
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import Task
from tuner.tuning.tune import SearchResult

CONFIG = "model: {source: 'torch:a.b:c'}\ntarget: 'null'\nbaselines: {models: [untuned]}\nsearch: {effort: quick}\n"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    null_device.install(monkeypatch)
    monkeypatch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))


@pytest.fixture
def context(tmp_path: Path) -> Iterator[RunContext]:
    """Of a run that has searched."""
    with Interrupts(lambda text: None) as interrupted:
        config = dataclasses.replace(run_files.parse(CONFIG, "c.yaml"), out=str(tmp_path))
        progress = Progress(io.StringIO(), live=False)
        made = RunContext(config, "run", progress, NULL.local(1), tmp_path / "a-run", interrupted)
        made.work.mkdir(parents=True)
        yield made


@pytest.fixture(scope="module")
def model() -> ImportedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def graph(model: ImportedModel) -> Lowered:
    return lower(clean(model.module), GraphConfig("NCHW"), NULL.local(1).tvm())


def changed(context: RunContext, more: str) -> RunContext:
    """The same with other lines in the run file."""
    config = dataclasses.replace(run_files.parse(CONFIG + more, "c.yaml"), out=context.config.out)
    return dataclasses.replace(context, config=config)


def finish(
    context: RunContext, model: ImportedModel, graph: Lowered, device: Null, parts: Mapping[str, Any] | None = None
) -> tuple[ModelComparison | None, dict[str, Any] | None]:
    fallback = Fallback(dict(parts or {}), {}, lambda *_: None, str, context.notes.append, lambda: False)
    return command.whole_model(context, device, model, graph, fallback, {"a package": "1.0"}, Rehearsal(0.0))


def timing(tuned_s: float) -> Callable[..., list[EntrySpec]]:
    """`Null.entries`, with another time of the tuned model."""

    def entries(
        device: Null, model: ImportedModel, libraries: Mapping[str, Path], baselines: Sequence[str]
    ) -> list[EntrySpec]:
        seconds = {TUNED: tuned_s, UNTUNED: UNTUNED_S, REFERENCE: FASTEST_S}
        service = "tests.null_device:NullModel"
        return [
            EntrySpec(name, service, {"seconds": s}) for name, s in seconds.items() if name in {*libraries, REFERENCE}
        ]

    return entries


# --- assembled and exported -------------------------------------------------------------------------


def test_a_verified_model_that_is_faster_is_exported(
    context: RunContext, model: ImportedModel, graph: Lowered, tmp_path: Path
) -> None:
    device, [task] = Null(tmp_path / "kernels"), graph.tasks
    comparison, manifest = finish(context, model, graph, device, {task.key: "a part", "another": None})
    assert comparison is not None
    assert manifest is not None
    assert comparison.verified
    assert comparison.result.seconds.keys() == {TUNED, UNTUNED, REFERENCE}
    library = context.folder / "export" / "model.so"
    assert json.loads(library.read_text()) == {task.key: "a part"}, "what builds no more is left to TVM"
    assert manifest["versions"] == {"a package": "1.0"}
    assert (manifest["device"], manifest["threads"]) == (NullAssembly.runtime, 1)


def test_a_model_that_is_slower_than_untuned_is_not_exported(
    context: RunContext, model: ImportedModel, graph: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Null, "entries", timing(2 * UNTUNED_S))
    comparison, manifest = finish(context, model, graph, Null(tmp_path / "kernels"))
    assert comparison is not None
    assert manifest is None
    assert "not exported: it is slower than untuned TVM" in comparison.notes
    assert not (context.folder / "export").exists()


def test_what_is_not_verified_is_not_exported(
    context: RunContext, model: ImportedModel, graph: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Null, "references", ("a framework that is not here",))
    comparison, manifest = finish(context, model, graph, Null(tmp_path / "kernels"))
    assert comparison is not None
    assert not comparison.verified
    assert manifest is None
    assert "not exported: its outputs are not verified" in comparison.notes


def test_what_misses_its_accuracy_is_not_exported(
    context: RunContext, model: ImportedModel, graph: Lowered, tmp_path: Path
) -> None:
    """Nothing here computes in float64, so nothing shows that the bound is kept."""
    context.config = dataclasses.replace(context.config, accuracy=AccuracyConfig(metric="cosine", at_least=0.9))
    comparison, manifest = finish(context, model, graph, Null(tmp_path / "kernels"))
    assert comparison is not None and comparison.quality is not None and comparison.quality.met is False
    assert manifest is None and not (context.folder / "export").exists()
    assert any("not exported: it misses its accuracy: cosine could not be computed" in n for n in comparison.notes)


def test_exports_can_be_switched_off(context: RunContext, model: ImportedModel, graph: Lowered, tmp_path: Path) -> None:
    context = changed(context, "export: {enabled: false}\n")
    comparison, manifest = finish(context, model, graph, Null(tmp_path / "kernels"))
    assert comparison is not None
    assert manifest is None
    assert "not exported: export.enabled is false" in comparison.notes


def test_without_hardware_nothing_is_compared_or_exported(
    context: RunContext, model: ImportedModel, graph: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Null, "runs_models", False)
    assert finish(context, model, graph, Null(tmp_path / "kernels")) == (None, None)
    assert context.notes == ["not exported: without its device the model's outputs are not verified"]
    assert not (context.folder / "export").exists()


def test_untuned_tvm_is_compiled_only_where_it_is_a_baseline(
    context: RunContext, model: ImportedModel, graph: Lowered, tmp_path: Path
) -> None:
    context = dataclasses.replace(
        context, config=dataclasses.replace(context.config, baselines=run_files.BaselinesConfig(models=()))
    )
    comparison, manifest = finish(context, model, graph, Null(tmp_path / "kernels"))
    assert comparison is not None
    assert UNTUNED not in comparison.result.seconds
    assert manifest is not None, "no time to be slower than"


def test_after_an_interrupt_only_what_verifies_is_run(
    context: RunContext, model: ImportedModel, tmp_path: Path
) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    assert context.interrupted()
    service = "tests.null_device:NullModel"
    names = (TUNED, REFERENCE, "another baseline")
    entries = [EntrySpec(name, service, {"seconds": FASTEST_S}) for name in names]
    comparison = command.compare(context, model, entries, (REFERENCE,))
    assert comparison.result.seconds.keys() == {TUNED, REFERENCE}
    assert comparison.verified


# --- kernels: baselines and parts -------------------------------------------------------------------


class Timed(Null):
    """A device with a framework, whose kernels take as many microseconds as their task is often called."""

    def kernel_baselines(self, tasks: Sequence[Task], timing: BaselineTiming) -> Samples:
        timing.note(f"{timing.seconds:g} s for all")
        return {task.key: {"framework": [1e-6 * task.weight]} for task in tasks}


def result_of(graph: Lowered, **sessions: Any) -> SearchResult:
    return cast(SearchResult, SimpleNamespace(lowered=graph, sessions=sessions))


def test_kernel_baselines_are_asked_for_unless_they_are_not_wanted(
    context: RunContext, graph: Lowered, tmp_path: Path
) -> None:
    device, [task] = Timed(tmp_path / "kernels"), graph.tasks
    assert command.kernel_baselines(context, device, result_of(graph)) == {task.key: {"framework": [1e-6]}}
    assert context.notes == [f"{context.settings.kernel_baselines_s:g} s for all"]
    unwanted = changed(context, "").config
    context.config = dataclasses.replace(unwanted, baselines=run_files.BaselinesConfig(kernels=False))
    assert command.kernel_baselines(context, device, result_of(graph)) == {}


def test_a_part_is_asked_for_of_every_winner(graph: Lowered, tmp_path: Path) -> None:
    [task], best, gone = graph.tasks, Candidate(0, (5, 5, 5)), Candidate(0, (1, 1, 1))

    def session(built: object) -> Any:
        return SimpleNamespace(task=task, space=None, artifact_of=lambda candidate: built)

    result = result_of(graph, there=session("an artifact"), gone=session(None))
    parts = command.parts(Null(tmp_path / "kernels"), result, {"there": best, "gone": gone})
    assert parts == {"there": best.to_text(), "gone": None}


# --- exported again ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("runs")
    store_model(folder / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
        return run(config_of(folder, "runs", trials=8))


def rebuild(ran: Ran, winners: Mapping[str, str]) -> Path:
    return command.rebuild_export(ran.config, NULL.local(1), ran.folder, winners, {})


def test_an_export_is_built_again_from_the_winners_alone(finished: Ran) -> None:
    _, [graph] = lowered(finished.config, NULL.local(1), Progress(io.StringIO()))
    winners = {task.key: Candidate(0, (number, 0, 0)).to_text() for number, task in enumerate(graph.tasks)}
    folder = rebuild(finished, winners)
    assert json.loads((folder / "model.so").read_text()) == winners
    assert not list(finished.folder.glob(".*")), "scratch space is left"


def test_a_model_that_has_other_kernels_now_is_refused(finished: Ran) -> None:
    with pytest.raises(UserError, match="its kernels are not those of the model any more") as caught:
        rebuild(finished, {"0123456789abcdef": Candidate(0, (0, 0, 0)).to_text()})
    assert caught.value.hint == "run it again"


def test_a_winner_that_builds_no_more_leaves_the_export_as_it_is(
    finished: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, [graph] = lowered(finished.config, NULL.local(1), Progress(io.StringIO()))
    library = finished.folder / "export" / "model.so"
    before = library.read_bytes()
    monkeypatch.setattr(NullAssembly, "part", lambda *arguments: None)
    with pytest.raises(UserError, match="does not build any more"):
        rebuild(finished, {graph.tasks[0].key: Candidate(0, (0, 0, 0)).to_text()})
    assert library.read_bytes() == before
    assert not list(finished.folder.glob(".*"))
