"""What a record database and a finished run hold, and what must hold of them after every kill."""

from __future__ import annotations

import collections
import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tuner.records import Fidelity, Status
from tuner.store import SqlStore


class Trial(NamedTuple):
    """One record without what differs by nature: its run, the time of day, the seconds of building."""

    task: str
    candidate: str
    fidelity: Fidelity
    status: Status
    samples_s: tuple[float, ...]
    batch: int | None


def rows(database: Path) -> dict[int, tuple[Any, ...]]:
    """Rows by id, once the database has passed SQLite's own checks."""
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchall():
            return {}
        return {row[0]: row for row in connection.execute("SELECT * FROM records ORDER BY id")}
    finally:
        connection.close()


def trials(database: Path) -> list[Trial]:
    """What was measured, in order."""
    with SqlStore(f"sqlite:///{database}") as store:
        records = store.read()
        assert not store.quarantined, f"{store.quarantined} rows cannot be understood"
    return [
        Trial(
            record.task_key, record.candidate, record.measurement.fidelity, record.measurement.status,
            record.measurement.samples_s, record.measurement.conditions.batch,
        )
        for record in records
    ]  # fmt: skip


def same(first: Sequence[Trial], second: Sequence[Trial]) -> bool:
    """Whether two lists are the same but for their order."""
    return sorted(first, key=repr) == sorted(second, key=repr)


def screenings(measured: Sequence[Trial]) -> int:
    return sum(trial.fidelity is Fidelity.SCREEN for trial in measured)


def assert_nothing_twice(measured: Sequence[Trial]) -> None:
    """No candidate was measured twice at one fidelity."""
    counts = collections.Counter((trial.task, trial.candidate, trial.fidelity) for trial in measured)
    twice = [key for key, count in counts.items() if count > 1]
    assert not twice, f"measured twice: {twice[:3]}"


def latest_run(folder: Path) -> Path:
    """The run that was finished last, of the runs in a folder."""
    return max(folder.glob("*/summary.json"), key=lambda path: path.stat().st_mtime_ns).parent


def result(run: Path) -> dict[str, Any]:
    """The result of a finished run, without what depends on how busy the machine is. Its files are there, and the
    export is the one of its checksum."""
    summary = json.loads((run / "summary.json").read_text())
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    assert hashlib.sha256((run / "export" / "model.so").read_bytes()).hexdigest() == manifest["sha256"]
    assert summary["export"]["sha256"] == manifest["sha256"]
    for name in ("report.md", "kernels.csv", "config.yaml", "environment.json"):
        assert (run / name).stat().st_size > 0, name
    return {
        "kernels": [{k: v for k, v in kernel.items() if k != "baselines"} for kernel in summary["kernels"]],
        "verified": summary["end_to_end"]["verified"],
        "trials": summary["search"]["trials"],
        "stopped_by": summary["search"]["stopped_by"].partition(",")[0],
    }
