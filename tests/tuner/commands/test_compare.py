"""`compare`: trials on the null device, whole models that TVM compiled, and what cannot be compared."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from kernels.space import Candidate
from tests import null_device
from tests.null_device import NullBench, NullBuilder, NullExecutable, seconds_of
from tests.test_null_device import Ran, config_of, run, store_model
from tuner import cli
from tuner.commands.compare import Comparison, compare
from tuner.errors import InfrastructureError, UserError
from tuner.export import library
from tuner.measure.stats import Verdict
from tuner.models import ImportedModel, InputSpec
from tuner.progress import Progress
from tuner.protocols import BuildFailure
from tuner.records import CpuState, Fidelity, Label, Measurement, Record, Status


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A run on the null device, which is known while this module is tested."""
    folder = tmp_path_factory.mktemp("runs")
    store_model(folder / "tiny.onnx")
    with pytest.MonkeyPatch.context() as patch:
        null_device.install(patch)
        patch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
        yield run(config_of(folder, "runs", trials=8))


@pytest.fixture(scope="module")
def trials(ran: Ran) -> dict[str, list[Record]]:
    """What was screened, by task: at least two of each."""
    by_task: dict[str, list[Record]] = {}
    for record in ran.records:
        if record.measurement.fidelity is Fidelity.SCREEN:
            by_task.setdefault(record.task_key, []).append(record)
    assert len(by_task) == 2
    assert all(len(records) >= 2 for records in by_task.values())
    return by_task


def compared(a: str, b: str, ran: Ran | None = None) -> tuple[list[list[str]], list[str]]:
    return compare(a, b, "nowhere" if ran is None else ran.config.out, 1.0, Progress(io.StringIO()))


def named(ran: Ran, record: Record) -> str:
    return f"{ran.folder.name}:{record.trial}"


# --- trials -------------------------------------------------------------------------------------------


def test_trials_of_a_kernel_are_measured_again_in_pairs(ran: Ran, trials: dict[str, list[Record]]) -> None:
    records = sorted(next(iter(trials.values())), key=lambda r: seconds_of(Candidate.from_text(r.candidate)))
    fast, slow = records[0], records[-1]
    ratio = seconds_of(Candidate.from_text(fast.candidate)) / seconds_of(Candidate.from_text(slow.candidate))
    assert ratio < 0.99
    table, [sentence] = compared(named(ran, fast), named(ran, slow), ran)
    assert [row[:2] for row in table] == [["A", named(ran, fast)], ["B", named(ran, slow)]]
    assert all("60 samples" in row[2] for row in table), "twelve rounds in each of five processes"
    assert sentence.startswith(f"A against B: FASTER; A takes {ratio:.4f} of B's time")
    assert compared(named(ran, slow), named(ran, fast), ran)[1][0].startswith("A against B: SLOWER")
    assert compared(named(ran, slow), named(ran, slow), ran)[1][0].startswith("A against B: SAME")


def test_command(ran: Ran, trials: dict[str, list[Record]], capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = next(iter(trials.values()))
    pair = [named(ran, first), f"latest:{second.trial}"]
    assert cli.main(["compare", *pair, "--out", ran.config.out, "--time-budget", "1s"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(" ms [") == 2
    assert "A against B: " in shown
    assert cli.main(["compare", *pair, "--time-budget", "never"]) == 2
    assert "--time-budget" in capsys.readouterr().err


def test_trials_of_two_kernels_are_not_compared(ran: Ran, trials: dict[str, list[Record]]) -> None:
    (first, *_), (other, *_) = trials.values()
    with pytest.raises(UserError, match="or their targets differ") as caught:
        compared(named(ran, first), named(ran, other), ran)
    assert "two trials of one kernel" in caught.value.hint


def test_a_trial_is_not_compared_with_a_model(ran: Ran, trials: dict[str, list[Record]]) -> None:
    [first, *_], *_ = trials.values()
    with pytest.raises(UserError, match="one is a kernel's trial, the other a whole model"):
        compared(named(ran, first), ran.folder.name, ran)


@pytest.mark.parametrize(("trial", "words"), [("0", "no trial '0'"), ("9999", "no trial"), ("x", "no trial 'x'")])
def test_a_trial_that_is_not_there_is_named(ran: Ran, trial: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        compared(f"{ran.folder.name}:{trial}", f"{ran.folder.name}:1", ran)
    assert f"tuner show --records {ran.folder.name}" in caught.value.hint


def test_a_run_that_is_not_there_is_named(ran: Ran) -> None:
    with pytest.raises(UserError, match="elsewhere"):
        compared("elsewhere", ran.folder.name, ran)


def test_too_few_pairs_are_no_verdict() -> None:
    undecided = Comparison([1e-3], [1e-3], Verdict(Label.UNDECIDED, None, None), 0.01)
    assert undecided.sentence() == "A against B: UNDECIDED (too few pairs)"
    in_state = Comparison([1e-3], [2e-3], Verdict(Label.FASTER, 0.5, (0.4, 0.6)), 0.01, state=CpuState.APART)
    assert in_state.sentence().startswith("A against B, CPUs apart: FASTER; A takes 0.5000 of B's time")
    assert [row[2] for row in undecided.rows(("x", "y"))] == ["1.00 ms, 1 samples"] * 2


@pytest.mark.parametrize(
    ("where", "method", "outcome", "words"),
    [
        (NullBuilder, "build", [BuildFailure(Status.BUILD_FAILED, "no registers")] * 2, "does not build: no registers"),
        (NullBuilder, "reference", "no rule for sort", "nothing to check it against: no rule for sort"),
        (NullBench, "measure", Measurement(Status.RUN_FAILED, reason="SIGSEGV"), "run failed: SIGSEGV"),
    ],
)
def test_what_cannot_be_built_checked_or_run_is_said(
    where: type, method: str, outcome: Any, words: str, ran: Ran, trials: dict[str, list[Record]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first, second, *_ = next(iter(trials.values()))
    monkeypatch.setattr(where, method, lambda *arguments: outcome)
    with pytest.raises(UserError, match=words):
        compared(named(ran, first), named(ran, second), ran)


# --- whole models --------------------------------------------------------------------------------------


def exported(folder: Path, factor: float = 1.0, rows: int = 3, executable: Any = None) -> Path:
    """The export of a small model: x + factor."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((rows, 4), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            total = builder.emit_output(relax.op.add(x, relax.const(np.float32(factor))))
        builder.emit_func_output(total)
    model = ImportedModel("tiny", "test", builder.get(), (InputSpec("x", (rows, 4), "float32"),), {})
    executable = executable or tvm.compile(model.module, "llvm")
    library.export(executable, folder, model, [((rows, 4), "float32")], "llvm", 1, {"tvm": tvm.__version__})
    return folder / "export"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("first"))


def test_exports_are_timed_in_fresh_processes_and_their_outputs_compared(export: Path, tmp_path: Path) -> None:
    table, (sentence, agreement) = compared(str(export), str(exported(tmp_path)))
    assert [row[0] for row in table] == ["A", "B"]
    assert any(sentence.startswith(f"A against B: {label}") for label in Label)
    assert agreement == "their outputs agree"


def test_outputs_that_differ_are_said(export: Path, tmp_path: Path) -> None:
    _, (_, agreement) = compared(str(export), str(exported(tmp_path, factor=1.5)))
    assert agreement.startswith("their outputs DIFFER: ")


def test_models_of_other_inputs_are_not_compared(export: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="their inputs differ"):
        compared(str(export), str(exported(tmp_path, rows=5)))


def test_models_of_other_devices_are_not_compared(export: Path, tmp_path: Path) -> None:
    other = exported(tmp_path)
    manifest = json.loads((other / library.MANIFEST).read_text())
    (other / library.MANIFEST).write_text(json.dumps({**manifest, "device": "opencl"}))
    with pytest.raises(UserError, match="exported for opencl, and models are compared on CPUs only"):
        compared(str(export), str(other))


def test_an_export_that_does_not_run_is_named(export: Path, tmp_path: Path) -> None:
    broken = exported(tmp_path, executable=NullExecutable({}))
    with pytest.raises(InfrastructureError, match=r"model\.so does not run"):
        compared(str(export), str(broken))


def test_a_run_without_an_export_says_how_to_get_one(export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    folder.mkdir()
    (folder / "config.yaml").write_text("model: {source: onnx:x}\n")
    with pytest.raises(UserError, match="a-run: it exported no model") as caught:
        compare("a-run", str(export), str(tmp_path), 1.0, Progress(io.StringIO()))
    assert "tuner export a-run" in caught.value.hint
