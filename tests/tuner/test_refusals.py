"""What the machine refuses is reported at once: one clear message, exit code 3, no traceback, nothing left broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.tuner.commands.test_show import SUMMARY, add_run
from tests.tuner.test_files import mounted
from tuner import cli, files

ROOT = Path(__file__).resolve().parents[2]


def refused(arguments: list[str], wrap: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*wrap, sys.executable, "-m", "tuner", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert not done.stdout
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  "), "a hint says what to do"
    return done.stderr


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    file = tmp_path / "run.yaml"
    disk = tmp_path / "disk"
    file.write_text(
        f"model: {{source: 'onnx:light_resnet50'}}\nmeasure: {{database: 'sqlite:///{disk}/records.db'}}\n"
        f"out: {disk}/runs\n"
    )
    return file


def test_a_second_run_in_the_same_folder(run_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "disk" / "runs"
    with files.locked(out / ".lock", "a run is going on"):
        message = refused(["run", str(run_file)])
    assert f"a run is going on in it already (process {os.getpid()})" in message
    assert [p.name for p in out.iterdir()] == [".lock"]


def test_an_export_while_a_run_goes_on(run_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "disk" / "runs"
    add_run(out, "r1", json.dumps(SUMMARY))
    with files.locked(out / ".lock", "a run is going on"):
        assert "already" in refused(["export", "r1", "--out", str(out)])


def test_a_read_only_folder(run_file: Path, tmp_path: Path) -> None:
    wrap = mounted(tmp_path, "size=3m", 'mount -o remount,ro "$0"')
    assert "Read-only file system" in refused(["run", str(run_file)], wrap)


def test_no_folder_for_temporary_files(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    assert cli.main(["run", str(run_file)]) == 3
    message = capsys.readouterr().err
    assert "no folder for temporary files" in message
    assert "TMPDIR" in message
