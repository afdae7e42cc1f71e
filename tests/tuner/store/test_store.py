"""The SQL store: the contract, and what databases do to it."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from tests.contracts.record_store import RecordStoreContract, make_record
from tuner.errors import DamagedStore, StoreError
from tuner.store import SCHEMA_VERSION, SqlStore, engine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not" / "yet" / "there" / "records.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


class TestContract(RecordStoreContract):
    @pytest.fixture(params=["file", "memory"])
    def store(self, request: pytest.FixtureRequest, url: str) -> Iterator[SqlStore]:
        with SqlStore(url if request.param == "file" else "sqlite://") as store:
            yield store


def test_records_outlive_the_store(url: str) -> None:
    with SqlStore(url) as store:
        store.append([make_record()])
    with SqlStore(url) as store:
        assert store.read() == [make_record()]
        assert store.quarantined == 0


def test_records_outlive_a_killed_process(url: str) -> None:
    script = (
        "import os, signal, sys\n"
        "from tuner.store import SqlStore\n"
        "from tests.contracts.record_store import make_record\n"
        "SqlStore(sys.argv[1]).append([make_record()])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, url]).returncode < 0
    with SqlStore(url) as store:
        assert store.read() == [make_record()]


def test_one_append_is_all_or_nothing(url: str) -> None:
    with SqlStore(url) as store:
        for poison in (make_record(seed=2**63), make_record(task_name="\ud800"), make_record(run_id=None)):
            with pytest.raises(StoreError, match=r"records\.db"):
                store.append([make_record(), poison])
        assert store.read() == []


def test_eight_processes_create_and_append_200_records_each(url: str, path: Path) -> None:
    script = (
        "import sys\n"
        "from tuner.store import SqlStore\n"
        "from tests.contracts.record_store import make_record\n"
        "sys.stdin.readline()\n"
        "with SqlStore(sys.argv[1]) as store:\n"
        "    for trial in range(200):\n"
        "        store.append([make_record(run_id='shared', task_key=sys.argv[2], trial=trial)])\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, url, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(8)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert [(child.communicate()[1], child.returncode) for child in children] == [(b"", 0)] * len(children)
    with SqlStore(url) as store:
        for n in range(len(children)):
            assert [r.trial for r in store.read(task_key=str(n))] == list(range(200))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_a_record_without_its_run_is_refused_by_the_database(url: str, path: Path) -> None:
    with SqlStore(url) as store:
        store.append([make_record()])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        connection.execute("UPDATE records SET run_id = 'nobody'")
    connection.close()


def test_a_database_that_stays_locked_is_a_store_error(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_MS", 200)
    with SqlStore(url) as store:
        store.append([make_record()])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert len(store.read()) == 1  # readers do not wait
        with pytest.raises(StoreError, match="another process keeps it locked"):
            store.append([make_record()])
        other.execute("ROLLBACK")
        other.close()
        store.append([make_record()])
        assert len(store.read()) == 2


@pytest.mark.parametrize(
    "damage",
    [
        'measurement = \'{"status": "ok"\'',
        "measurement = '[]'",
        "measurement = 'null'",
        "measurement = '{}'",
        "measurement = json_set(measurement, '$.status', 'splendid')",
        "measurement = json_remove(measurement, '$.build_s')",
        "measurement = json_set(measurement, '$.build_s', 'soon')",
        "measurement = json_set(measurement, '$.max_abs_error', 'small')",
        "measurement = replace(measurement, '0.75', printf('1%.*c', 400, '0'))",
        "measurement = printf('%.*c', 100000, '[')",
        "samples = x'0000000000000000'",
        "samples = x'000000000000f07f'",
        "samples = x'00'",
        "samples = ''",
        "samples = 1.5",
        "measurement = json_set(measurement, '$.conditions', 3)",
        "features = x'00'",
        "features = x'0000803f'",
        "features = zeroblob(16)",
        "features = 'text'",
        "features = 12",
        "trial = 'seven'",
        "trial = 1.5",
        "seed = x'00'",
        "task_name = x'00'",
        "task_name = CAST(x'c3' AS TEXT)",
        "measurement = CAST(x'ff' AS TEXT)",
        "environment = x'00'",
        "environment = CAST(x'c3' AS TEXT)",
        "git_commit = x'00'",
    ],
)
def test_a_damaged_row_is_skipped_and_counted(path: Path, url: str, damage: str) -> None:
    with SqlStore(url) as store:
        store.append([make_record(trial=trial) for trial in range(3)])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE records SET {damage} WHERE id = 2")  # noqa: S608 - the texts stand above
    connection.close()
    with SqlStore(url) as store:
        for _ in range(2):
            assert [record.trial for record in store.read()] == [0, 2]
            assert store.quarantined == 1


@pytest.mark.parametrize(
    "names",
    [
        "'['",
        "'null'",
        "'3'",
        "'[1, 2, 3]'",
        "x'00'",
        "7",
        "CAST(x'c3' AS TEXT)",
        "replace(names, 'unroll', 'unrolled')",
        "printf('%.*c', 100000, '[')",
        None,
    ],
)
def test_damaged_names_cost_the_names_only_and_are_put_right(path: Path, url: str, names: str | None) -> None:
    with SqlStore(url) as store:
        store.append([make_record(trial=trial) for trial in range(3)])
        store.append([make_record(trial=3, columns=("a", "b", "c"))])
    where = "WHERE names LIKE '%unroll%'"
    damage = f"UPDATE feature_columns SET names = {names} {where}" if names else f"DELETE FROM feature_columns {where}"  # noqa: S608
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    with SqlStore(url) as store:
        nameless = [make_record(trial=trial, columns=()) for trial in range(3)]
        for _ in range(2):
            assert store.read() == [*nameless, make_record(trial=3, columns=("a", "b", "c"))]
            assert store.quarantined == 1
        store.append([make_record(trial=4)])
        assert [record.columns for record in store.read()[:3]] == [make_record().columns] * 3
    with SqlStore(url) as store:
        assert store.read()[0] == make_record(trial=0)
        assert store.quarantined == 0


@pytest.mark.parametrize("facts", ["'{'", "'[]'", "x'00'", "7", "CAST(x'c3' AS TEXT)"])
def test_damaged_facts_cost_no_record_and_are_put_right(path: Path, url: str, facts: str) -> None:
    with SqlStore(url) as store:
        store.add_environment(make_record().environment, {"cpu": "a"})
        store.append([make_record()])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE environments SET facts = {facts}")  # noqa: S608 - the texts stand above
    connection.close()
    with SqlStore(url) as store:
        assert store.read() == [make_record()]
        for _ in range(2):
            assert store.environment(make_record().environment) is None
            assert store.quarantined == 1
        store.add_environment(make_record().environment, {"cpu": "a"})
        assert store.environment(make_record().environment) == {"cpu": "a"}


def test_an_append_is_one_statement_once_its_run_and_names_are_stored(url: str) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        statements.append(statement)

    with SqlStore(url) as store:
        store.add_environment("here", {})
        store.append([make_record(environment="here")])
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
        try:
            store.add_environment("here", {})
            store.append([make_record(environment="here"), make_record(trial=8)])
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    begin, insert = statements
    assert begin == "BEGIN IMMEDIATE"
    assert insert.startswith("INSERT INTO records")


def assert_refused(url: str, *words: str, code: int = 3) -> StoreError:
    with pytest.raises(StoreError) as caught:
        SqlStore(url)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == code
    return caught.value


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    path.write_bytes(b"this is not a database" * 100)
    assert_refused(f"sqlite:///{path}", str(path), "not a SQLite database")
    assert path.read_bytes() == b"this is not a database" * 100


def test_a_damaged_database_is_a_store_error(path: Path, url: str) -> None:
    with SqlStore(url) as store:
        store.append([make_record()] * 200)
    pages = path.read_bytes()
    path.write_bytes(pages[:8192] + b"\xa5" * (len(pages) - 8192))
    with pytest.raises(DamagedStore, match=r"records\.db.*\n.*sets it aside"), SqlStore(url) as store:
        store.read()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(f"sqlite:///{tmp_path}", str(tmp_path), "a folder you may write to")


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(f"sqlite:///{tmp_path}/file/records.db", "records.db")


def test_a_read_only_database_can_be_read(path: Path, url: str) -> None:
    with SqlStore(url) as store:
        store.append([make_record()])
        with SqlStore(f"sqlite:///file:{path}?mode=ro&uri=true") as view:
            assert view.read() == [make_record()]
            with pytest.raises(StoreError, match=r"records\.db.*\n.*read-only"):
                view.append([make_record()])


def test_a_full_disk_keeps_what_was_stored(path: Path, url: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SqlStore(url) as store:
        store.append([make_record()])
        log = path.with_name("records.db-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 65536, before[1]))
        try:
            with pytest.raises(StoreError, match="disk"):
                store.append([make_record(candidate="x" * 1_000_000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert store.read() == [make_record()]
        store.append([make_record(trial=8)])
        assert [record.trial for record in store.read()] == [7, 8]


@pytest.mark.parametrize("version", [str(SCHEMA_VERSION + 1), "0", "'new'", "x'01'"])
def test_another_schema_is_refused(path: Path, url: str, version: str) -> None:
    SqlStore(url).close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE schema_version")
        connection.execute("CREATE TABLE schema_version (version)")
        connection.execute(f"INSERT INTO schema_version VALUES ({version})")  # noqa: S608 - the texts stand above
    connection.close()
    assert_refused(url, "schema", "update this program")


def test_the_table_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE records (title TEXT)")
    connection.close()
    assert_refused(f"sqlite:///{path}", "of another program")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite:/records.db",
        "unknown://u:secret@host/db",
        "x://u:secret@host:port/db",
        "x://u:top/secret@host:port/db",
    ],
)
def test_a_url_that_means_nothing_is_refused_without_its_password(url: str) -> None:
    assert "secret" not in str(assert_refused(url, "sqlite:///", code=2))
