"""What a run needs before it searches: a folder of its own, the lock on its neighbours, scopes that do not mix."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Literal

import pytest

from tests import null_device
from tests.tuner.importers import graphs
from tuner.commands import prepare, show
from tuner.commands.prepare import RunContext
from tuner.config import SETTINGS, MeasureConfig, ModelConfig, PassesConfig, RunConfig, SearchConfig, TargetConfig
from tuner.devices import resolve
from tuner.devices.target import ResolvedTarget
from tuner.errors import OutputError
from tuner.process.interrupts import Interrupts
from tuner.progress import Progress

EffortName = Literal["quick", "standard", "thorough"]
SOURCE = "onnx:light_resnet50"


def config_in(out: Path) -> RunConfig:
    return RunConfig(ModelConfig(SOURCE), out=str(out))


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = [prepare.run_folder(config_in(tmp_path / "runs"), None) for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() for folder in folders)
    assert all(prepare.is_run_of(folder.name, SOURCE) for folder in folders)
    assert not any(prepare.is_run_of(folder.name, "onnx:light_resnet5") for folder in folders)


def test_a_resumed_run_keeps_its_folder(tmp_path: Path) -> None:
    assert prepare.run_folder(config_in(tmp_path), "20260101-000000-x") == tmp_path / "20260101-000000-x"


def test_the_run_that_started_last_is_the_latest_even_where_the_clock_was_set_back(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    prepare.start(tmp_path / "first", "model: {}\n")
    os.utime(tmp_path / "first" / "config.yaml", (4e9, 4e9))  # in the future
    prepare.start(tmp_path / "second", "model: {}\n")
    assert show.find(str(tmp_path), "latest") == tmp_path / "second"


def test_one_run_at_a_time_holds_a_folder_and_what_killed_ones_left_is_tidied(tmp_path: Path) -> None:
    folder = prepare.run_folder(config_in(tmp_path), None)
    prepare.start(folder, "model: {}\n")
    scratch = prepare.scratch(folder)
    scratch.mkdir()
    (scratch / "kernel.o").touch()
    with prepare.hold(config_in(tmp_path)):
        with pytest.raises(OutputError, match="a run is going on"), prepare.hold(config_in(tmp_path)):
            pass
        prepare.tidy(tmp_path)
    assert not scratch.exists()
    assert (folder / "config.yaml").exists()


def context(tmp_path: Path, effort: EffortName = "quick", replay: Path | None = None) -> RunContext:
    config = RunConfig(ModelConfig(SOURCE), search=SearchConfig(effort=effort), measure=MeasureConfig(workers=3))
    target = ResolvedTarget(null_device.NAME, "{}", 1, "no device")
    return RunContext(
        config,
        "run",
        Progress(io.StringIO()),
        target,
        tmp_path / "run",
        Interrupts(lambda sentence: None),
        replay=replay,
    )


def test_a_replay_is_in_a_scope_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    null_device.install(monkeypatch)
    monkeypatch.setattr(resolve, "kind_of", lambda target: null_device.NULL)
    measured, replayed = context(tmp_path), context(tmp_path, replay=tmp_path / "file.jsonl")
    assert measured.scope != replayed.scope
    assert measured.scope == prepare.scope_of(measured.target, measured.config.measure.mode)


@pytest.mark.parametrize("effort", SETTINGS)
def test_the_settings_are_those_of_the_effort(tmp_path: Path, effort: EffortName) -> None:
    run = context(tmp_path, effort)
    assert run.settings is SETTINGS[effort]
    opening = run.opening()
    assert opening.workers == 3
    assert opening.work == run.work
    assert run.work.parent == run.folder


def test_a_model_is_lowered_once_for_each_graph_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    null_device.install(monkeypatch)
    source = graphs.save(graphs.conv_net(), tmp_path)
    passes = PassesConfig(layouts=("NCHW", "NHWC"), fusion_depths=(-1, 0))
    config = RunConfig(ModelConfig(source), target=TargetConfig(null_device.NAME), passes=passes)
    target = resolve.resolve(config.target)
    model, variants = prepare.lowered(config, target, Progress(io.StringIO()))
    assert re.fullmatch(r"[\w.-]+", model.name)
    assert [(v.config.layout, v.config.fusion_depth) for v in variants] == [
        ("NCHW", -1), ("NCHW", 0), ("NHWC", -1), ("NHWC", 0),
    ]  # fmt: skip
    _, [only] = prepare.lowered(config, target, Progress(io.StringIO()), only=variants[2].config)
    assert {t.key for t in only.tasks} == {t.key for t in variants[2].tasks}
