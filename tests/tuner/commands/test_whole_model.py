"""What is put together, checked and exported at the end of a run. Whole runs are tested in test_run and on the null
device; here are the rules."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernels.space import Candidate
from tests import null_device
from tests.golden import synthetic_run
from tests.null_device import NULL, Null
from tests.test_null_device import store_model
from tuner import config as run_files
from tuner.commands import whole_model
from tuner.commands.prepare import RunContext, lowered, run_folder
from tuner.devices import resolve
from tuner.errors import UserError
from tuner.graph import Lowered
from tuner.measure.models import TUNED, UNTUNED
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress
from tuner.protocols import ImportedModel

CONFIG = """
model: {{source: "onnx:{folder}/tiny.onnx"}}
target: 'null'
search: {{effort: quick}}
baselines: {{models: [untuned]}}
out: {folder}/runs
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    null_device.install(monkeypatch)
    monkeypatch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
    store_model(tmp_path / "tiny.onnx")
    config = run_files.parse(CONFIG.format(folder=tmp_path), "run file")
    folder = run_folder(config, None)
    context = RunContext(
        config, "run", Progress(io.StringIO()), resolve.resolve(config.target), folder, Interrupts(lambda s: None)
    )
    context.work.mkdir()
    return context


@pytest.fixture
def graph(run: RunContext) -> tuple[ImportedModel, Lowered]:
    model, [only] = lowered(run.config, run.target, run.progress)
    return model, only


@pytest.fixture
def device(run: RunContext) -> Iterator[Null]:
    opened = NULL.open(run.opening())
    yield opened
    opened.close()


def exporting(run: RunContext, enabled: bool) -> RunContext:
    config = dataclasses.replace(run.config, export=dataclasses.replace(run.config.export, enabled=enabled))
    return dataclasses.replace(run, config=config)


def test_what_is_not_verified_or_slower_is_not_exported(run: RunContext) -> None:
    fine = synthetic_run.comparison()
    assert whole_model.why_not_exported(run, fine) == ""
    assert whole_model.why_not_exported(exporting(run, False), fine) == "export.enabled is false"
    for verified in (False, None):
        unverified = dataclasses.replace(fine, verified=verified)
        assert whole_model.why_not_exported(run, unverified) == "its outputs are not verified"
    blocks = {TUNED: fine.result.blocks[UNTUNED], UNTUNED: dict.fromkeys(range(60), 1e-3)}
    slow = {r: 1.0 + 1e-4 * (r % 3) for r in range(60)}
    slower = dataclasses.replace(fine, result=dataclasses.replace(fine.result, blocks={**blocks, TUNED: slow}))
    assert whole_model.why_not_exported(run, slower) == "it is slower than untuned TVM"


def test_the_model_is_verified_timed_and_exported(
    run: RunContext, device: Null, graph: tuple[ImportedModel, Lowered]
) -> None:
    model, only = graph
    comparison, manifest = whole_model.whole_model(run, device, model, only, {"key": "a part", "gone": None}, {})
    assert comparison is not None
    assert comparison.verified is True
    assert comparison.result.verdict(TUNED, UNTUNED).ratio == pytest.approx(0.1, rel=0.5)
    assert manifest is not None
    assert (run.folder / "export" / "model.so").read_text() == '{"key": "a part"}'  # what builds no more is left out


def test_without_hardware_nothing_is_exported_and_the_note_says_why(
    run: RunContext, device: Null, graph: tuple[ImportedModel, Lowered]
) -> None:
    device.runs_models = False
    assert whole_model.whole_model(run, device, *graph, {}, {}) == (None, None)
    assert any("not exported" in note for note in run.notes)
    assert not (run.folder / "export").exists()


def test_an_interrupted_run_compares_with_what_verifies_it_alone(
    run: RunContext, device: Null, graph: tuple[ImportedModel, Lowered], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def compare_models(entries: Any, references: Any, inputs: Any, folder: Any, threads: int, budget_s: float,
                       *others: Any) -> None:  # fmt: skip
        asked.append(([entry.name for entry in entries], budget_s))

    monkeypatch.setattr("tuner.measure.models.compare_models", compare_models)
    libraries = {TUNED: Path("a"), UNTUNED: Path("b")}
    entries = [
        *device.entries(graph[0], libraries, ()),
        dataclasses.replace(device.entries(graph[0], {}, ())[0], name="x"),
    ]
    whole_model.compare(run, graph[0], entries, device.references)
    run.interrupted.requested = True
    whole_model.compare(run, graph[0], entries, device.references)
    [(all_names, budget_s), (kept_names, short_s)] = asked
    assert set(all_names) - set(kept_names) == {"x"}
    assert short_s <= budget_s


def test_an_export_is_built_again_from_the_winners_of_a_run(
    run: RunContext, graph: tuple[ImportedModel, Lowered]
) -> None:
    _, only = graph
    task = only.tasks[0]
    candidate = null_device.space_of().from_indices(0, (5, 5, 5))
    text = candidate.to_text()
    folder = whole_model.rebuild_export(run.config, run.target, run.folder, {task.key: text}, {})
    assert folder == run.folder / "export"
    assert text.replace('"', '\\"') in (folder / "model.so").read_text()
    assert Candidate.from_text(text) == candidate
    assert list(run.folder.glob(".work-*/kernels")) == []
    with pytest.raises(UserError, match="not those of the model any more"):
        whole_model.rebuild_export(run.config, run.target, run.folder, {"another": text}, {})


def test_a_winner_that_builds_no_more_is_named(
    run: RunContext, graph: tuple[ImportedModel, Lowered], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = graph[1].tasks[0]
    monkeypatch.setattr(null_device.NullBuilder, "build", lambda self, task, candidates: [None])
    text = null_device.space_of().default().to_text()
    with pytest.raises(UserError, match=f"{task.name} does not build any more"):
        whole_model.rebuild_export(run.config, run.target, run.folder, {task.key: text}, {})
