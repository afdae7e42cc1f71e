"""Models with islands put together from real parts: their values, and exported as a folder that runs by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.graphs import save
from tests.tuner.importers.islands import ALL
from tuner import importers
from tuner.baselines.exact import NOISY_RUNS, ExactWorker
from tuner.baselines.onnxruntime import OnnxRuntime
from tuner.commands.whole_model import assembled, export, to_run
from tuner.devices import resolve
from tuner.errors import UserError
from tuner.export import library
from tuner.graph import GraphConfig, clean, lower
from tuner.measure.accuracy import Yardstick
from tuner.measure.exact import ExactRun
from tuner.measure.models import EXACT, PIPELINE, TUNED, EntrySpec, Timing, compare_models, compiled_entry
from tuner.measure.pipeline import Pipeline
from tuner.models import ImportedModel, InputSet
from tuner.outputs import check_outputs
from tuner.protocols import Array

THREADS = 2
EXACT_SERVICE = "tuner.baselines.exact:ExactWorker"


@dataclass
class Made:
    """A model with islands, compiled without winners and exported to `folder`."""

    model: ImportedModel
    folder: Path

    def inputs(self, seed: int = 0) -> list[Array]:
        return importers.model_inputs(self.model.inputs, self.model.model_spec, seed)

    def expected(self, inputs: list[Array]) -> list[Array]:
        """By ONNX Runtime from the model as it came."""
        prepared = OnnxRuntime(importers.onnx_bytes).load(self.model.model_spec, THREADS).prepare(inputs)
        prepared.launch(1)
        return prepared.outputs()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    made: dict[str, Made] = {}

    def build(name: str) -> Made:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            model = importers.load(save(ALL[name](), folder), None, {}, "original", 0)
            kind = resolve.kind_named("llvm")
            target = kind.local(THREADS)
            graph = lower(clean(model.module), GraphConfig("NCHW8c"), target.tvm())
            assembly = kind.assembly(target)
            executables = assembled(model, graph, assembly, {})
            export(model, graph, executables, folder, target, {"a package": "1.0"}, assembly)
            made[name] = Made(model, folder / "export")
        return made[name]

    return build


def agree(got: list[Array], expected: list[Array]) -> None:
    check = check_outputs(got, expected, 1e-4, 1e-5)
    assert check.ok, check.reason
    assert [array.dtype.kind for array in got] == [array.dtype.kind for array in expected]


@pytest.mark.parametrize("name", ALL)
def test_the_parts_give_what_the_model_gives(name: str, make: Callable[[str], Made]) -> None:
    made = make(name)
    for seed in range(3):  # lengths that depend on the data differ
        inputs = made.inputs(seed)
        pipeline = Pipeline(made.folder, inputs, THREADS)
        pipeline.launch(1)
        agree(pipeline.outputs(), made.expected(inputs))
        pipeline.launch(2)
        agree(pipeline.outputs(), made.expected(inputs))
    assert "ONNX Runtime" in pipeline.runtimes
    assert len(pipeline.segment_seconds(0.0)) == len(made.model.plan.segments if made.model.plan else ())


def test_results_of_other_lengths_than_the_last_time(make: Callable[[str], Made]) -> None:
    made = make("positions")
    pipeline = Pipeline(made.folder, made.inputs(0), THREADS)
    pipeline.launch(1)
    before = pipeline.outputs()[1].shape
    [shared] = [array for name, array in pipeline._shared.items() if name == "x"]  # noqa: SLF001  no one else writes it
    np.copyto(shared, made.inputs(1)[0])
    pipeline.launch(1)
    agree(pipeline.outputs(), made.expected(made.inputs(1)))
    assert pipeline.outputs()[1].shape != before


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(folder / library.LOADER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_exported_folder_runs_by_itself(make: Callable[[str], Made], tmp_path: Path) -> None:
    made = make("words")
    inputs = made.inputs(7)
    manifest = library.read_manifest(made.folder)
    assert [spec["name"] for spec in manifest["inputs"]] == [spec.name for spec in made.model.inputs]
    assert [segment["kind"] for segment in manifest["segments"]].count("island") >= 1
    np.savez(tmp_path / "in.npz", *inputs)
    done = _run(made.folder, str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr
    assert "ms for one call" in done.stdout
    with np.load(tmp_path / "out.npz", allow_pickle=False) as stored:
        agree([stored[key] for key in stored.files], made.expected(inputs))


def test_an_export_of_two_tuned_parts_is_verified(make: Callable[[str], Made]) -> None:
    made = make("branches")
    inputs = made.inputs(7)
    check = library.verify(made.folder, inputs, made.expected(inputs), 1e-4, 1e-5)
    assert check.ok, check.reason


def test_the_loader_says_what_an_input_must_be(make: Callable[[str], Made], tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", word=np.zeros((4, 4)), x=np.zeros((4, 8)))
    done = _run(make("words").folder, str(tmp_path / "in.npz"))
    assert done.returncode == 1
    assert "the input word must be string (4, 4), there is float64 (4, 4)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_changed_part_is_not_loaded(number: int, make: Callable[[str], Made], tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for path in make("branches").folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    part = folder / json.loads((folder / library.MANIFEST).read_text())["segments"][number]["file"]
    part.write_bytes(part.read_bytes() + b"\0")
    with pytest.raises(UserError, match=rf"{part.name}: its SHA-256"):
        library.read_manifest(folder)
    done = _run(folder)
    assert done.returncode == 1
    assert f"{part.name} is not the file of manifest.json" in done.stderr
    part.unlink()
    with pytest.raises(UserError, match=rf"{part.name}: No such file"):
        library.read_manifest(folder)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("file", "../model.so"), ("file", "/model.so"), ("file", "island_0.onnx.so"), ("kind", "other"),
        ("sha256", "0"), ("inputs", [{"name": "x", "shape": [-1], "dtype": "float32"}]),
    ],
)  # fmt: skip
def test_a_damaged_manifest_names_the_field(
    field: str, wrong: Any, make: Callable[[str], Made], tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for path in make("branches").folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((folder / library.MANIFEST).read_text())
    manifest["segments"][0][field] = wrong
    (folder / library.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"segments\[0\]\.{field}"):
        library.read_manifest(folder)


@pytest.mark.parametrize("name", ALL)
def test_float64_around_the_islands_is_what_the_model_computes(
    name: str, make: Callable[[str], Made], tmp_path: Path
) -> None:
    made = make(name)
    np.savez(tmp_path / "in.npz", *made.inputs())
    worker = ExactWorker(dict(made.model.model_spec), THREADS, "tuner.baselines.exact_nodes:module")
    unit = worker.op_outputs(str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))["unit"]
    assert unit == 2.0**-24
    with np.load(tmp_path / "out.npz", allow_pickle=False) as stored:
        exact = [stored[key] for key in stored.files if key.startswith("exact_")]
        samples = [
            [stored[key] for key in stored.files if key.startswith(f"noisy_{run}_")] for run in range(NOISY_RUNS)
        ]
    agree(exact, made.expected(made.inputs()))
    assert any(array.dtype == np.float64 for array in exact)
    yardstick = Yardstick(exact, samples, unit)
    expected = made.expected(made.inputs())
    assert yardstick.check(expected).ok
    wrong = [array + 1 if array.dtype.kind in "if" else np.full_like(array, "no") for array in expected]
    for number in range(len(expected)):
        assert not yardstick.check([*expected[:number], wrong[number], *expected[number + 1 :]]).ok


def test_verified_and_timed_as_a_whole_against_the_original(make: Callable[[str], Made], tmp_path: Path) -> None:
    """With float64 around the islands as the reference, in children, as a run does it."""
    made = make("detector")
    spec = dict(made.model.model_spec)
    tuned = compiled_entry(TUNED, to_run(made.model, made.folder.parent), THREADS)
    assert tuned.service == PIPELINE
    common = {"model_spec": spec, "threads": THREADS}
    baseline = {**common, "baseline": "onnxruntime", "provider": "tuner.importers:onnx_bytes"}
    specs = [
        tuned,
        EntrySpec("onnxruntime", "tuner.baselines.worker:BaselineWorker", baseline),
    ]
    exact = ExactRun(
        EntrySpec(EXACT, EXACT_SERVICE, {**common, "provider": "tuner.baselines.exact_nodes:module"}),
        [made.inputs(0), made.inputs(1)], tmp_path, THREADS,
    )  # fmt: skip
    comparison = compare_models(
        specs, ("onnxruntime",), [InputSet(f"set {seed}", tuple(made.inputs(seed))) for seed in (0, 1)], tmp_path,
        THREADS, Timing(lambda: 0.5, 3), 0, lambda text: None, exact=exact,
    )  # fmt: skip
    assert comparison.verified, comparison.notes
    assert "tuned outputs compared with a float64 run on set 0" in comparison.notes
    assert "and on set 1" in comparison.notes
    assert comparison.result.seconds.keys() == {TUNED, "onnxruntime"}
    assert len(comparison.segments_s) == 2
    assert all(seconds > 0 for seconds in comparison.segments_s)
