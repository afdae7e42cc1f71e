"""Runs are found by id, prefix or `latest`, only inside their folder; a damaged one is named as such."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tuner import cli
from tuner.commands import show as runs
from tuner.errors import UserError
from tuner.records import Measurement, Record, Status

SUMMARY: dict[str, Any] = {
    "schema": 1,
    "run_id": "r1",
    "command": "python -m tuner run configs/resnet.yaml",
    "seed": 0,
    "model": {"name": "res\x1b[2Jnet", "source": "onnx:light_resnet50", "batch": 1, "inputs": {"x": [1, 3, 8, 8]}},
    "target": {"kind": "llvm", "device": "a CPU", "threads": 2, "features": ["avx2"]},
    "search": {
        "strategy": "guided", "trials": 64, "measured": 60, "reused": 4, "failed": {"run failed": 2, "invalid": 0},
        "wall_s": 60.5, "stopped_by": "time",
    },
    "kernels": [
        {
            "task": "abc", "name": "conv", "weight": 3, "flops": 1e9, "bytes": 1e6, "untuned_s": 0.01, "tuned_s": 0.001,
            "interval_s": [0.0009, 0.0011], "baselines": {}, "verified": True, "verdict": "FASTER", "candidate": "[0]",
        }
    ],
    "end_to_end": {
        "untuned_s": 0.5, "tuned_s": 0.05, "interval_s": [0.049, 0.051], "verified": True, "max_abs_error": 1e-6,
        "max_rel_error": 1e-5, "baselines": {"onnxruntime": {"median_s": 0.04, "interval_s": [0.039, 0.041]}},
        "ratios": {"untuned": 0.1}, "state": "apart",
    },
    "export": {"path": "export", "sha256": "0" * 64},
    "environment": {},
}  # fmt: skip


def add_run(out: Path, name: str, summary: str | None = None, age: int = 0) -> Path:
    folder = out / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {source: onnx:light_resnet50}\n")
    os.utime(folder / "config.yaml", (1e9 - age, 1e9 - age))
    if summary is not None:
        (folder / "summary.json").write_text(summary)
    return folder


def test_a_run_is_found_by_id_prefix_and_age(tmp_path: Path) -> None:
    old, new = add_run(tmp_path, "b-run", age=10), add_run(tmp_path, "a-run")
    longer = add_run(tmp_path, "b-run-2", age=20)
    out = str(tmp_path)
    assert runs.folders(out) == [longer, old, new]
    assert runs.find(out, "latest") == new
    assert runs.find(out, "b-run") == old  # an exact id beats being a prefix of another
    assert runs.find(out, "a") == new
    with pytest.raises(UserError, match="may mean"):
        runs.find(out, "b-")
    with pytest.raises(UserError, match="did you mean 'a-run'"):
        runs.find(out, "a-runn")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "a/..", "/etc", "a-run/../../secret", "link", "\x00", "*"]
)
def test_no_name_reaches_outside(name: str, tmp_path: Path) -> None:
    add_run(tmp_path, "secret")
    add_run(tmp_path / "runs", "a-run")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError):
        runs.find(str(tmp_path / "runs"), name)


def test_the_list_tolerates_what_is_missing_or_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn, older = '{"schema": 1, "ru', '{"schema": 0}'
    texts = {"good": json.dumps(SUMMARY), "torn": torn, "list": "[]", "older": older, "none": None}
    for age, (name, text) in enumerate(texts.items()):
        add_run(tmp_path, name, text, age)
    (tmp_path / "file").write_text("no run")
    assert cli.main(["list", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "none", "older", "list", "torn", "good"]
    assert "did not end" in lines[1]
    assert all("damaged" in line for line in lines[2:5])
    assert lines[5].endswith("50.0 ms (10x as fast as untuned, 500 ms)")


def test_an_empty_list_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no runs" in shown.err


@pytest.mark.parametrize("command", ["show", "report", "export", "profile"])
def test_a_run_that_did_not_end_is_told_how_to_go_on(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = add_run(tmp_path, "a-run")
    assert cli.main([command, "latest", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "did not end" in told and f"run {folder / 'config.yaml'} --resume a-run" in told


def test_a_file_is_no_folder_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["list", "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_show_prints_the_facts_and_escapes_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_run(tmp_path, "r1", json.dumps(SUMMARY))
    assert cli.main(["show", "r", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for word in ("res?[2Jnet", "60 measurements, 4 reused", "2 run failed", "FASTER",
                 "50.0 ms (10x as fast as untuned, 500 ms)", "40.0 ms onnxruntime", "verified  yes",
                 "CPUs      apart"):  # fmt: skip
        assert word in shown
    assert "\x1b" not in shown
    assert "0 invalid" not in shown


def test_show_of_a_run_that_measured_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {
        **SUMMARY,
        "kernels": [{**SUMMARY["kernels"][0], "untuned_s": None, "tuned_s": None, "interval_s": None, "verdict": None}],
        "end_to_end": {
            "untuned_s": None, "tuned_s": None, "interval_s": None, "baselines": {}, "verified": None,
            "max_abs_error": None, "max_rel_error": None,
        },
        "export": None,
    }  # fmt: skip
    add_run(tmp_path, "r1", json.dumps(nothing))
    assert cli.main(["show", "latest", "--out", str(tmp_path)]) == 0
    assert "not checked" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 1}'])
def test_show_of_a_damaged_run_is_one_clear_error(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(tmp_path, "r1", text)
    assert cli.main(["show", "r1", "--out", str(tmp_path)]) == 2
    assert "summary.json" in capsys.readouterr().err


def test_show_records_reads_the_database_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tuner.store import SqlStore

    url = f"sqlite:///{tmp_path / 'records.db'}"
    folder = add_run(tmp_path / "runs", "r1", json.dumps(SUMMARY))
    (folder / "config.yaml").write_text(f"model: {{source: onnx:x}}\nmeasure: {{database: '{url}'}}\n")
    good = Measurement(Status.OK, samples_s=(0.001, 0.002, 0.003))
    bad = Measurement(Status.RUN_FAILED, reason="killed by SIGSEGV")
    stored = [
        Record("r1", "key", "conv", "scope", 1, "[0]", "seed", good, 0, "2026-01-01T00:00:00+00:00"),
        Record("r1", "key", "conv", "scope", 2, "[1]", "mutate", bad, 0, "2026-01-01T00:00:00+00:00"),
        Record("other", "key", "conv", "scope", 9, "[2]", "mutate", bad, 0, "2026-01-01T00:00:00+00:00"),
    ]
    SqlStore(url).append(stored)
    assert cli.main(["show", "r1", "--out", str(tmp_path / "runs"), "--records"]) == 0
    rows = capsys.readouterr().out.split("trial  ")[1].splitlines()
    assert len(rows) == 3
    assert "2.00 ms" in rows[1]
    assert "killed by SIGSEGV" in rows[2]


@pytest.mark.parametrize("command", ["report", "export"])
def test_a_damaged_summary_is_set_aside_and_can_be_made_again(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = add_run(tmp_path, "r1", '{"schema": 1, "run')
    assert cli.main([command, "r1", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "summary.json" in message
    assert "set aside as summary.json.damaged-1" in message
    assert f"{folder}/config.yaml --resume r1" in message
    assert (folder / "summary.json.damaged-1").read_text() == '{"schema": 1, "run'
    assert not (folder / "summary.json").exists()
    for other in ({"schema": 2}, None):  # of a newer program; missing: left as it is
        if other is not None:
            (folder / "summary.json").write_text(json.dumps(other))
        assert cli.main([command, "r1", "--out", str(tmp_path)]) == 2
        assert (folder / "summary.json").exists() == (other is not None)
        (folder / "summary.json").unlink(missing_ok=True)
