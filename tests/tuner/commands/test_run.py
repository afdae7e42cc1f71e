"""The whole program on a small real model: run, run again, interrupt, rebuild the report, export.

What needs no compiler is tested on the null device: tests/test_null_device.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import null_device
from tests.ceilings import keep_ceilings
from tests.null_device import Null
from tests.test_null_device import config_of, store_model
from tests.test_null_device import run as run_on_null_device
from tuner import cli
from tuner.export.library import read_manifest

ROOT = Path(__file__).resolve().parents[3]

# One thread: two that must meet twenty thousand times a second are slower than one while other tests run beside
# them, and what is slower than untuned is not exported.
CONFIG = """
model: {{source: "torch:tests.tuner.graph.test_graph:small"}}
target: {{spec: llvm, threads: 1}}
search: {{trials: {trials}, time_budget: {budget}, effort: quick}}
baselines: {{models: [{baselines}]}}
measure: {{database: "sqlite:///{folder}/records.db"}}
out: {folder}/runs
"""


def _config(folder: Path, trials: int = 16, budget: str = "30s", baselines: str = "untuned, torch") -> Path:
    keep_ceilings(folder / "runs", 1)
    path = folder / "small.yaml"
    path.write_text(CONFIG.format(folder=folder, trials=trials, budget=budget, baselines=baselines))
    return path


MARK = f"TUNER_TEST_RUN={uuid.uuid4()}"
ENVIRONMENT = {**os.environ, "TUNER_TEST_RUN": MARK.partition("=")[2]}
"""Marks every process that these tests start, and what those start in turn."""


def _tuner(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuner", *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=280, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _left_running() -> list[str]:
    """Command lines of marked processes that are still there ten seconds later (death takes a moment)."""
    deadline = time.monotonic() + 10
    while (found := _marked()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _marked() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if MARK.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of the configuration, folder of the finished run)"""
    folder = tmp_path_factory.mktemp("run")
    done = _tuner("run", str(_config(folder, baselines="untuned, torch, onnxruntime")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not _left_running()
    [run] = (folder / "runs").glob("2*")
    return folder, run


def _summary(run: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


def test_everything_is_written(finished: tuple[Path, Path]) -> None:
    _, run = finished
    for name in ("config.yaml", "environment.json", "summary.json", "kernels.csv", "report.md", "report.html"):
        assert (run / name).stat().st_size > 0, name
    assert not list(run.glob(".*"))  # no scratch space, nothing half written


def test_the_result_is_verified_and_compared(finished: tuple[Path, Path]) -> None:
    summary = _summary(finished[1])
    whole = summary["end_to_end"]
    assert whole["verified"] is True
    assert whole["max_rel_error"] < 1e-3
    assert set(whole["baselines"]) == {"torch", "onnxruntime"}
    assert whole["untuned_s"] > 0
    assert whole["tuned_s"] > 0
    # on a machine with other work a verdict may stay UNDECIDED
    tuned = [k for k in summary["kernels"] if k["candidate"] and k["verdict"] in ("FASTER", "UNDECIDED")]
    assert tuned
    assert all(k["verified"] and k["candidate"] for k in tuned)
    assert summary["search"]["trials"] >= 1
    assert sum(k["weight"] for k in summary["kernels"]) >= len(summary["kernels"])


def test_trial_budget_is_kept(finished: tuple[Path, Path]) -> None:
    assert _summary(finished[1])["search"]["trials"] <= 16 + len(_summary(finished[1])["kernels"])


def test_the_export_runs_in_a_fresh_process(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder = finished[1] / "export"
    manifest = read_manifest(folder)
    assert manifest["sha256"] == _summary(finished[1])["export"]["sha256"]
    np.savez(tmp_path / "in.npz", np.random.default_rng(0).standard_normal((1, 3, 33, 33), dtype=np.float32))
    done = subprocess.run(
        [sys.executable, "-P", str(folder / "run_model.py"), str(tmp_path / "in.npz")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "(1, 7)" in done.stdout


def test_list_show_report_export(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder, run = finished
    out = str(folder / "runs")
    assert cli.main(["list", "--out", out]) == 0
    assert run.name in capsys.readouterr().out
    assert cli.main(["show", run.name, "--out", out]) == 0
    assert "verified" in capsys.readouterr().out
    (run / "report.html").unlink()
    assert cli.main(["report", run.name, "--out", out]) == 0
    assert (run / "report.html").exists()
    before = (run / "export" / "model.so").read_bytes()
    assert cli.main(["export", run.name, "--out", out]) == 0, capsys.readouterr().err
    assert len((run / "export" / "model.so").read_bytes()) == pytest.approx(len(before), rel=0.05)


def test_where_the_time_of_the_model_goes(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder, run = finished
    summary = _summary(run)
    account = summary["account"]
    assert {kernel["task"] for kernel in account["kernels"]} == {kernel["task"] for kernel in summary["kernels"]}
    assert all(kernel["lower_bound_s"] >= 0 for kernel in summary["kernels"])
    assert {kernel["cold_bytes"] for kernel in summary["kernels"]} == {0}  # so small a model stays in the caches
    assert "## Where the time goes" in (run / "report.md").read_text()
    assert cli.main(["profile", run.name, "--out", str(folder / "runs")]) == 0, capsys.readouterr().err
    assert "All parts together take" in capsys.readouterr().out


def test_every_winner_was_measured_again(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, run = finished
    tuned = [k for k in _summary(run)["kernels"] if k["tuned_s"] is not None]
    assert tuned
    for kernel in tuned:
        assert kernel["searched_s"] > 0
        assert kernel["remeasurement_shift"] == pytest.approx(kernel["tuned_s"] / kernel["searched_s"] - 1)
        assert "fresh process" in kernel["metadata"]["samples"]
        assert kernel["candidate"] not in kernel["ties"]
    assert cli.main(["show", run.name, "--out", str(run.parent)]) == 0
    shown = capsys.readouterr().out
    for words in ("re-measured", "fresh process", "stopped by", "TVM_NUM_THREADS"):
        assert words in shown


def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    config = _config(tmp_path, trials=100_000, budget="20m")
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", "run", str(config)], cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    database = tmp_path / "records.db"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _has_records(database, 8):
        time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, out + err
    [run] = (tmp_path / "runs").glob("2*")
    assert (run / "report.html").exists()
    assert _summary(run)["search"]["stopped_by"] == "interrupt"
    assert _summary(run)["end_to_end"]["verified"] is True
    assert (run / "export" / "model.so").exists()
    assert not _left_running()


def _has_records(database: Path, count: int) -> bool:
    import sqlite3

    if not database.exists():
        return False
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute("select count(*) from records").fetchone()[0]) >= count
    except sqlite3.OperationalError:
        return False


def test_ceilings_are_measured_before_the_clock_of_the_search_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is not known yet they take seconds, which are not the search's to spend."""
    null_device.install(monkeypatch)
    monkeypatch.setattr("tuner.measure.comparison.PAUSE_S", (0.0, 0.0))
    ceilings = Null.ceilings
    built_before: list[int] = []

    def measured(device: Null) -> Mapping[str, Any]:
        if not built_before:
            time.sleep(3.0)
        built_before.append(device.builder.built)
        return ceilings

    monkeypatch.setattr(Null, "ceilings", property(measured))
    store_model(tmp_path / "tiny.onnx")
    ran = run_on_null_device(config_of(tmp_path, "runs", trials=3))
    assert built_before[0] == 0
    assert ran.summary["search"]["wall_s"] < 3.0
