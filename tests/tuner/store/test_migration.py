"""A stored database of each schema version is opened, keeps its records, and can be written to."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.assets.records import ASSETS, FACTS, STORED, expected
from tests.contracts.record_store import make_record
from tuner.records import Fidelity, Measurement, Status
from tuner.store import SCHEMA_VERSION, SqlStore, migration, rows
from tuner.store.salvage import open_store

VERSIONS = range(1, SCHEMA_VERSION + 1)
EARLIER = range(1, SCHEMA_VERSION)


def stored(version: int, folder: Path) -> Path:
    """A copy of the stored database of a version."""
    return Path(shutil.copy(ASSETS / f"records-v{version}.db", folder / "records.db"))


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def query(path: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_there_is_a_stored_database_of_every_version() -> None:
    names = [f"records-v{version}.db" for version in range(1, SCHEMA_VERSION + 1)]
    assert sorted(path.name for path in ASSETS.glob("records-v*.db")) == names
    for version, name in enumerate(names, 1):
        assert query(ASSETS / name, "SELECT version FROM schema_version") == [(version,)]


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_lost_and_all_is_as_in_a_new_database(version: int, tmp_path: Path) -> None:
    path = stored(version, tmp_path)
    with SqlStore(f"sqlite:///{path}") as store:
        assert store.read() == expected(version)
        assert store.quarantined == 0
        assert store.ended() == {"run-0", "run-1"}
        assert store.environment(make_record().environment) == (FACTS if version >= 3 else None)
        store.add_environment("later", {"cpu": "another"})
        store.append([make_record(run_id="later", environment="later")])
        assert store.read() == [*expected(version), make_record(run_id="later", environment="later")]
        store.check()
    SqlStore(f"sqlite:///{tmp_path / 'new.db'}").close()
    assert _structure(path) == _structure(tmp_path / "new.db")
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []


def _structure(path: Path) -> dict[str, Any]:
    """Every table's columns, references and indices."""
    tables = [name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    structure: dict[str, Any] = {}
    for table in tables:
        structure[f"columns of {table}"] = query(path, f"PRAGMA table_xinfo({table})")
        structure[f"references of {table}"] = sorted(
            row[2:] for row in query(path, f"PRAGMA foreign_key_list({table})")
        )
        structure[f"indices of {table}"] = sorted(row[1:] for row in query(path, f"PRAGMA index_list({table})"))
    indices = query(path, "SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name")
    return structure | {name: query(path, f"PRAGMA index_info({name})") for (name,) in indices}


@pytest.mark.parametrize("version", EARLIER)
def test_features_of_the_last_version_without_names_get_their_names(version: int, tmp_path: Path) -> None:
    path = stored(version, tmp_path)
    features = struct.pack(f"<{migration.FEATURES}f", *range(migration.FEATURES))
    change(path, f"UPDATE records SET features = x'{features.hex()}' WHERE id IN (2, 4)")  # noqa: S608 - digits
    names: set[tuple[str, ...]] = set()
    with SqlStore(f"sqlite:///{path}") as store:
        for number, record in enumerate(store.read(), 1):
            if number in (2, 4):
                names.add(record.columns)
                assert record.features == tuple(range(migration.FEATURES))
            else:
                assert record == expected(version)[number - 1]
        assert store.quarantined == 0
    assert names == {migration.COLUMNS}
    with SqlStore(f"sqlite:///{path}") as store:
        store.append([make_record(features=(0.0,) * migration.FEATURES, columns=migration.COLUMNS)])
    assert query(path, "SELECT count(*) FROM feature_columns") == [(1,)]


def test_the_names_that_a_migration_gives_are_those_of_the_features() -> None:
    columns = migration.COLUMNS
    assert len(columns) == len(set(columns)) == migration.FEATURES
    assert rows.columns_id(columns) == migration.COLUMNS_ID
    for position, name in {
        0: "store.max.0", 163: "store.max.163", 164: "store.sum.0", 328: "encoding.0", 353: "encoding.25",
        354: "pass.unroll", 367: "pass.vector_math", 368: "workload.flops", 370: "workload.intensity",
        371: "roofline.seconds", 379: "roofline.last_wave",
    }.items():  # fmt: skip
        assert columns[position] == name


@pytest.mark.parametrize("version", VERSIONS)
def test_damaged_rows_are_skipped_and_kept(version: int, tmp_path: Path) -> None:
    path = stored(version, tmp_path)
    change(
        path,
        "UPDATE records SET measurement = '{', trial = 'seven' WHERE id = 2",
        "UPDATE records SET measurement = '[]' WHERE id = 3",
        "UPDATE records SET task_name = x'00', features = 12 WHERE id = 4",
        "UPDATE records SET features = zeroblob(7) WHERE id = 5",
        "UPDATE records SET features = CAST(zeroblob(1520) AS TEXT) WHERE id = 6",
    )
    with SqlStore(f"sqlite:///{path}") as store:
        whole = [record for number, record in enumerate(expected(version), 1) if number not in (2, 3, 4, 5, 6)]
        assert store.read() == whole
        assert store.quarantined == 5
    assert query(path, "SELECT count(*) FROM records") == [(len(STORED),)]


def test_what_a_measurement_was_called_in_earlier_versions_is_read(tmp_path: Path) -> None:
    path = stored(1, tmp_path)
    text = (ASSETS / "measurement-v2.json").read_text()
    assert {"tier", "barred", "samples_disturbed"} <= {*json.loads(text), *json.loads(text)["conditions"]}
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE records SET measurement = ? WHERE id = 1", (text,))
    connection.close()
    with SqlStore(f"sqlite:///{path}") as store:
        measurement = store.read()[0].measurement
    assert measurement.samples_s == (1.25e-3, 1.5e-3)
    assert measurement.fidelity is Fidelity.RANK
    assert measurement.conditions.excluded == "the GPU was throttled"
    assert measurement.conditions.details["samples_preempted"] == 3


@pytest.mark.parametrize("version", EARLIER)
def test_several_processes_migrate_at_once(version: int, tmp_path: Path) -> None:
    path = stored(version, tmp_path)
    script = "import sys; from tuner.store import SqlStore; print(len(SqlStore(sys.argv[1]).read()))"

    def read(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, f"sqlite:///{path}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(read, range(3)))
    assert [(d.stdout.strip(), d.stderr) for d in done] == [(str(len(STORED)), "")] * 3


KILLED = """
import itertools, os, shutil, signal, sqlite3, sys
import sqlalchemy as sa
from tuner.store import SqlStore

stored, path, version = sys.argv[1], sys.argv[2], int(sys.argv[3])

def migrate(statements):
    left = statements
    def die(connection, cursor, statement, *others):
        nonlocal left
        if statement.split()[0] in ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE"):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sa.event.listen(sa.Engine, "after_cursor_execute", die)
    SqlStore(f"sqlite:///{path}").close()

for statements in itertools.count():
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    shutil.copy(stored, path)
    child = os.fork()
    if not child:
        migrate(statements)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(version,)]
    assert connection.execute("SELECT count(*) FROM records").fetchall() == [(9,)]
    connection.close()
    with SqlStore(f"sqlite:///{path}") as store:
        assert len(store.read()) == 9 and not store.quarantined
print(statements)
"""


@pytest.mark.parametrize("version", EARLIER)
def test_a_migration_that_is_killed_after_any_statement_leaves_the_earlier_version(
    version: int, tmp_path: Path
) -> None:
    arguments = [str(ASSETS / f"records-v{version}.db"), str(tmp_path / "records.db"), str(version)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert int(done.stdout) == {1: 18, 2: 8}[version]  # statements that write
    with SqlStore(f"sqlite:///{tmp_path / 'records.db'}") as store:
        assert store.read() == expected(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_damaged_file_of_each_version_is_salvaged(version: int, tmp_path: Path) -> None:
    path = stored(version, tmp_path)
    url = f"sqlite:///{path}"
    [(page,)] = query(path, "SELECT rootpage FROM sqlite_master WHERE name = 'records_by_run'")
    features = f"zeroblob({4 * migration.FEATURES})"
    if version < 3:
        change(path, f"UPDATE records SET features = {features} WHERE id = 1")  # noqa: S608 - a number
    content = bytearray(path.read_bytes())
    content[4096 * (page - 1) : 4096 * page] = b"\xa5" * 4096
    path.write_bytes(content)
    messages: list[str] = []
    with open_store(url, messages.append) as store:
        first, *others = store.read()
        assert others == expected(version)[1:]
        assert first.columns == (migration.COLUMNS if version < 3 else expected(version)[0].columns)
        assert store.ended() == ({"run-0", "run-1"} if version > 1 else set())
        assert store.environment(make_record().environment) == (FACTS if version >= 3 else None)
        store.check()
    assert len(messages) == 1
    assert query(path, "SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]


def test_samples_take_eight_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    samples = tuple(1e-3 / 3 + n * 1e-9 for n in range(10_000))
    with SqlStore(f"sqlite:///{path}") as store:
        store.append([make_record(measurement=Measurement(Status.OK, samples))])
        [record] = store.read()
        assert record.measurement.samples_s == samples
    assert path.stat().st_size < 8 * len(samples) + 60_000
