"""What a run needs before it can search: its folder, its scope, its lock, and what killed runs left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests import null_device
from tests.tuner.commands.test_show import add_run
from tests.tuner.importers import graphs
from tuner import config as run_files
from tuner.commands import prepare
from tuner.commands import show as runs
from tuner.commands.prepare import RunContext, is_run_of, model_slug, run_folder, scope_of
from tuner.config import ModelConfig, PassesConfig, RunConfig, TargetConfig
from tuner.devices import resolve
from tuner.errors import OutputError
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress

SOURCE = "onnx:models/Tiny Net.onnx"


def config_of(out: Path, more: str = "") -> RunConfig:
    return run_files.parse(f"model: {{source: '{SOURCE}'}}\nout: '{out}'\n{more}", "c.yaml")


def context_of(config: RunConfig, replay: Path | None = None) -> RunContext:
    with Interrupts(print) as interrupted:
        target = resolve.resolve(config.target)
        return RunContext(config, "run", Progress(), target, Path(config.out) / "a-run", interrupted, replay=replay)


def test_a_run_is_named_by_its_moment_and_its_model(tmp_path: Path) -> None:
    config = config_of(tmp_path / "runs")
    first, second = run_folder(config, None), run_folder(config, None)
    assert first != second, "two of one second"
    for folder in (first, second):
        assert folder.is_dir()
        assert re.fullmatch(r"\d{8}-\d{6}-onnx-models-tiny-net-onnx(-\d)?", folder.name)
        assert is_run_of(folder.name, SOURCE)
        assert not is_run_of(folder.name, "onnx:models/tiny.onnx")
    assert run_folder(config, first.name) == first, "the one to be resumed"


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OutputError, match="cannot be made") as caught:
        run_folder(config_of(tmp_path / "runs"), None)
    assert "--out" in caught.value.hint


@pytest.mark.parametrize("source", ["onnx:" + "x" * 100, "torch:a.b:c", "onnx:.../é"])
def test_the_slug_of_a_model_is_short_and_plain(source: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", model_slug(source))
    assert len(model_slug(source)) <= 40
    assert is_run_of(f"20260102-030405-{model_slug(source)}", source)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path / "runs")
    with prepare.hold(config), pytest.raises(OutputError, match="a run is going on"), prepare.hold(config):
        pass
    with prepare.hold(config):
        pass


def test_replayed_measurements_have_a_scope_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    null_device.install(monkeypatch)
    config = config_of(tmp_path, "target: 'null'\n")
    measured, replayed = context_of(config), context_of(config, replay=tmp_path / "recording.json")
    assert measured.scope == scope_of(measured.target, config.measure.mode)
    assert replayed.scope not in (measured.scope, scope_of(measured.target, "hot"), scope_of(measured.target, "cold"))
    assert replayed.opening().replay == tmp_path / "recording.json"
    assert measured.opening().work == measured.work == tmp_path / "a-run" / f".work-{os.getpid()}"
    assert measured.opening().runs == tmp_path


def test_a_later_run_is_the_latest_though_the_clock_was_set_back(tmp_path: Path) -> None:
    add_run(tmp_path, "20990101-000000-future", age=-3_000_000_000)
    for name in ("20260101-000000-second", "20260101-000000-a-third"):
        (tmp_path / name).mkdir()
        prepare.start(tmp_path / name, "model: {source: onnx:x}")
        assert runs.find(str(tmp_path), "latest").name == name


def test_what_killed_runs_left_is_put_right(tmp_path: Path) -> None:
    folder = add_run(tmp_path, "r1")
    (folder / ".work-123" / "kernels").mkdir(parents=True)
    (folder / ".export.old").mkdir()
    (folder / ".export.old" / "model.so").write_text("whole")
    (folder / "notes.txt").write_text("of the user")
    prepare.tidy(tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "export", "notes.txt"]
    assert (folder / "export" / "model.so").read_text() == "whole"


def test_a_model_is_lowered_once_for_each_graph_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    null_device.install(monkeypatch)
    source = graphs.save(graphs.conv_net(), tmp_path)
    passes = PassesConfig(layouts=("NCHW", "NHWC"), fusion_depths=(-1, 0))
    config = RunConfig(ModelConfig(source), target=TargetConfig(null_device.NAME), passes=passes)
    target = resolve.resolve(config.target)
    _, variants = prepare.lowered(config, target, Progress())
    assert [(v.lowered.config.layout, v.lowered.config.fusion_depth) for v in variants] == [
        ("NCHW", -1), ("NCHW", 0), ("NHWC", -1), ("NHWC", 0),
    ]  # fmt: skip
    _, [only] = prepare.lowered(config, target, Progress(), only=variants[2].lowered.config)
    assert {t.key for t in only.tasks} == {t.key for t in variants[2].tasks}
