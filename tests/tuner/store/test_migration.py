"""A stored database of each schema version is opened, keeps its records, and can be written to."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.record_store import make_record
from tuner.records import Measurement, Record, Status
from tuner.store import SCHEMA_VERSION, SqlStore

ASSETS = Path(__file__).parents[2] / "assets"


def expected() -> list[Record]:
    """What every stored database holds: one record of each status, in two runs."""
    found = []
    for number, status in enumerate(Status):
        ok = status is Status.OK
        measurement = Measurement(
            status,
            (1.25e-3, 1.5e-3, 1 / 3) if ok else (),
            reason="" if ok else "because",
            censored_at_s=0.25 if status is Status.CENSORED else None,
            conditions={"cost_s": 0.5, "load": 0.25},
        )
        found.append(make_record(run_id=f"run-{number % 2}", trial=number, measurement=measurement))
    return found


def rows_of_schema_1() -> list[dict[str, Any]]:
    connection = sqlite3.connect(ASSETS / "records-v1.db")
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute("SELECT * FROM records ORDER BY id")]
    connection.close()
    return found


def test_there_is_a_stored_database_of_every_version() -> None:
    names = [f"records-v{version}.db" for version in range(1, SCHEMA_VERSION + 1)]
    assert sorted(path.name for path in ASSETS.glob("records-v*.db")) == names
    for version, name in enumerate(names, 1):
        connection = sqlite3.connect(ASSETS / name)
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(version,)]
        connection.close()


@pytest.fixture(params=range(1, SCHEMA_VERSION + 1))
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(ASSETS / f"records-v{request.param}.db", tmp_path / "records.db"))


def test_nothing_is_lost_and_all_is_as_in_a_new_database(stored: Path, tmp_path: Path) -> None:
    with SqlStore(f"sqlite:///{stored}") as store:
        assert store.read() == expected()
        assert store.quarantined == 0
        assert store.ended() == {"run-0", "run-1"}
        store.append([make_record(run_id="later")])
        assert store.read()[-1].run_id == "later"
        store.check()
    SqlStore(f"sqlite:///{tmp_path / 'new.db'}").close()
    assert _tables(stored) == _tables(tmp_path / "new.db")
    connection = sqlite3.connect(stored)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def _tables(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return found


def test_a_damaged_row_of_schema_1_is_taken_over_and_skipped(tmp_path: Path) -> None:
    path = Path(shutil.copy(ASSETS / "records-v1.db", tmp_path / "records.db"))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET measurement = '{', trial = 'seven' WHERE id = 2")
        connection.execute("UPDATE records SET measurement = '[]' WHERE id = 3")
        connection.execute("UPDATE records SET task_name = x'00', features = 12 WHERE id = 4")
    connection.close()
    with SqlStore(f"sqlite:///{path}") as store:
        assert store.read() == [record for number, record in enumerate(expected(), 1) if number not in (2, 3, 4)]
        assert store.quarantined == 3


def test_two_processes_migrate_at_once(tmp_path: Path) -> None:
    path = Path(shutil.copy(ASSETS / "records-v1.db", tmp_path / "records.db"))
    script = "import sys; from tuner.store import SqlStore; print(len(SqlStore(sys.argv[1]).read()))"

    def read(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, f"sqlite:///{path}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(read, range(3)))
    assert [(d.stdout.strip(), d.stderr) for d in done] == [(str(len(expected())), "")] * 3


def test_a_migration_that_is_killed_leaves_the_old_version(tmp_path: Path) -> None:
    path = Path(shutil.copy(ASSETS / "records-v1.db", tmp_path / "records.db"))
    script = (
        "import os, signal, sys\n"
        "from tuner.store import SqlStore, schema\n"
        "def die(measurement): os.kill(os.getpid(), signal.SIGKILL)\n"
        "schema._split = die\n"
        "SqlStore(sys.argv[1])\n"
    )
    assert subprocess.run([sys.executable, "-c", script, f"sqlite:///{path}"]).returncode == -9
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
    assert connection.execute("SELECT count(*) FROM records").fetchall() == [(len(expected()),)]
    connection.close()
    with SqlStore(f"sqlite:///{path}") as store:
        assert store.read() == expected()


def test_samples_take_eight_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    samples = tuple(1e-3 / 3 + n * 1e-9 for n in range(10_000))
    with SqlStore(f"sqlite:///{path}") as store:
        store.append([make_record(measurement=Measurement(Status.OK, samples))])
        [found] = store.read()
        assert found.measurement.samples_s == samples
    assert path.stat().st_size < 8 * len(samples) + 60_000
