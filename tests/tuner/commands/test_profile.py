"""`profile`: the account of an exported model beside what its run certified, and the account that a run takes."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tvm.target import Target

from tests.contracts.device import tiny_model
from tests.tuner.commands.test_show import SUMMARY, add_run
from tuner import cli
from tuner import config as run_files
from tuner.commands import profile
from tuner.commands.prepare import RunContext
from tuner.devices import resolve
from tuner.errors import InfrastructureError
from tuner.export import library
from tuner.graph import GraphConfig, Lowered, build_untuned, clean, lower
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress

TARGET = {"kind": "llvm", "num-cores": 1}
SYMBOL_KEY = "0123456789abcdef"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with an export: untuned, which profiling does not mind."""
    folder = add_run(tmp_path, "a-run", json.dumps(SUMMARY))
    executable = build_untuned(tiny_model().module, Target(TARGET))
    library.export(executable, folder, tiny_model(), [([4, 16], "float32")], json.dumps(TARGET), 1, {})
    return folder


@pytest.fixture
def context(tmp_path: Path) -> Iterator[RunContext]:
    with Interrupts(lambda text: None) as interrupted:
        config = run_files.parse("model: {source: 'torch:a.b:c'}\ntarget: llvm\nsearch: {effort: quick}\n", "c.yaml")
        progress = Progress(io.StringIO(), live=False)
        target = resolve.resolve(dataclasses.replace(config.target, threads=1))
        yield RunContext(config, "run", progress, target, tmp_path / "a-run", interrupted)


@pytest.fixture(scope="module")
def graph() -> Lowered:
    return lower(clean(tiny_model().module), GraphConfig("NCHW"), Target(TARGET))


def test_the_command_prints_the_account(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "_SECONDS", 0.1)
    assert cli.main(["profile", "a-run", "--out", str(run.parent)]) == 0
    printed = capsys.readouterr().out
    for words in ("part  ", "matmul", "launches and runtime", "memory", "end to end", "All parts together take"):
        assert words in printed


def test_without_an_export_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_run(tmp_path, "a-run", json.dumps(SUMMARY))
    assert cli.main(["profile", "a-run", "--out", str(tmp_path)]) == 2
    assert "export the run again" in capsys.readouterr().err


def test_a_device_that_cannot_tell_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.devices.cpu.CpuKind.account", lambda *arguments: None)
    assert cli.main(["profile", "a-run", "--out", str(run.parent)]) == 2
    said = capsys.readouterr().err
    assert "a model on llvm devices has no account of its time: its calls cannot be told apart" in said
    assert "python -m tuner show a-run" in said


def test_kernels_are_told_by_their_tasks() -> None:
    taken: dict[str, Any] = {
        "kernels": [{"symbol": s} for s in (f"tuned_{SYMBOL_KEY}_9efecc8f2759", "fused_add", "pack")]
    }
    made = profile.with_tasks(taken, {"fused_add": "k"})
    assert [kernel["task"] for kernel in made["kernels"]] == [SYMBOL_KEY, "k", None]


def test_a_run_takes_it_from_what_it_put_together(run: Path, context: RunContext, graph: Lowered) -> None:
    taken = profile.account_of_run(context, tiny_model(), graph)
    assert taken is not None
    assert taken["kernels"]
    assert not context.notes


def test_a_run_that_put_nothing_together_has_none(context: RunContext, graph: Lowered) -> None:
    assert profile.account_of_run(context, tiny_model(), graph) is None


def test_a_run_goes_on_without_it(
    run: Path, context: RunContext, graph: Lowered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise InfrastructureError("no C compiler found", "install one")

    monkeypatch.setattr("tuner.devices.cpu.account.take", fail)
    assert profile.account_of_run(context, tiny_model(), graph) is None
    assert context.notes == ["no account of the model's time: no C compiler found"]
