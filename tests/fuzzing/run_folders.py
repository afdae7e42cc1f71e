"""The folder of a run: whole samples of its files, and how the program opens them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from pathlib import Path
from typing import Any

from tests.fuzzing.base import Files, Refused


@functools.cache
def run_folder() -> Files:
    from tests.tuner.commands.test_show import SUMMARY

    summary = {
        **SUMMARY, "ceilings": {"peak_flops_per_s": 1e11, "bandwidth_bytes_per_s": 1e10},
        "notes": ["The load average was 0.4 at the start."],
    }  # fmt: skip
    return {
        "summary.json": json.dumps(summary, indent=1).encode(),
        "environment.json": json.dumps({"cpu": "a CPU", "load_average": [0.1, 0.2, 0.3], "smt": None}).encode(),
        "config.yaml": b"model:\n  source: onnx:light_resnet50\nmeasure:\n  database: sqlite://\n",
    }


def open_run_folder(folder: Path, name: str) -> None:
    """`list`, `show` and the tables of `report`."""
    from tuner import cli, report

    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.redirect_stderr(shown):
        code = cli.main(["list", "--out", str(folder.parent)])
        assert code == 0, shown.getvalue()
        code = cli.main(["show", folder.name, "--records", "--out", str(folder.parent)])
        assert "internal error" not in shown.getvalue(), shown.getvalue()
    report.render(folder, [], ("csv",))
    if code:
        raise Refused(shown.getvalue())


def open_report(folder: Path, name: str) -> None:
    from tuner import report

    report.render(folder, _records())


def _records() -> list[Any]:
    from tests.contracts.record_store import make_record
    from tuner.records import Measurement, Status

    kernel = json.loads(run_folder()["summary.json"])["kernels"][0]
    return [
        make_record(
            run_id="r1", trial=trial, task_key=kernel["task"], candidate=f"[{trial}]",
            created_at=f"2026-01-02T03:04:0{trial}+00:00", measurement=Measurement(Status.OK, (0.01 / (trial + 1),)),
        )
        for trial in range(6)
    ]  # fmt: skip
