"""The store on a real PostgreSQL server: the same contract as on SQLite, and what only a server does."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import sqlalchemy as sa

from tests.assets.records import ASSETS, expected
from tests.contracts.record_store import RecordStoreContract, make_record
from tests.tuner import postgres
from tuner.errors import OutputError, StoreError
from tuner.store import SqlStore, migration
from tuner.store.history import History
from tuner.store.holding import held

pytestmark = pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing() or "there is a server")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture
def url(server: str) -> str:
    """An empty database."""
    engine = sa.create_engine(server)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return server


class TestContract(RecordStoreContract):
    @pytest.fixture
    def store(self, url: str) -> Iterator[SqlStore]:
        with SqlStore(url) as store:
            yield store


def test_records_outlive_the_store(url: str) -> None:
    with SqlStore(url) as store:
        store.append([make_record()])
    with SqlStore(url) as store:
        store.check()
        assert store.read() == [make_record()]


def test_several_processes_create_and_append_at_once(url: str) -> None:
    script = (
        "import sys\n"
        "from tuner.store import SqlStore\n"
        "from tests.contracts.record_store import make_record\n"
        "with SqlStore(sys.argv[1]) as store:\n"
        "    for trial in range(50):\n"
        "        store.append([make_record(run_id='shared', task_key=sys.argv[2], trial=trial)])\n"
    )

    def append(number: int) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-c", script, url, str(number)], stderr=subprocess.PIPE, timeout=120)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(append, range(4)))
    assert [(d.stderr, d.returncode) for d in done] == [(b"", 0)] * 4
    with SqlStore(url) as store:
        for number in range(4):
            assert [r.trial for r in store.read(task_key=str(number))] == list(range(50))


SCHEMAS = {
    1: (
        "CREATE TABLE schema_version (version INTEGER PRIMARY KEY)",
        "CREATE TABLE records (id BIGSERIAL PRIMARY KEY, run_id VARCHAR(255) NOT NULL,"
        " task_key VARCHAR(255) NOT NULL, task_name TEXT NOT NULL, scope VARCHAR(255) NOT NULL,"
        " trial INTEGER NOT NULL, candidate TEXT NOT NULL, proposer TEXT NOT NULL, measurement TEXT NOT NULL,"
        " seed BIGINT NOT NULL, created_at TEXT NOT NULL, features BYTEA NOT NULL)",
        "CREATE INDEX records_by_scope_and_task ON records (scope, task_key)",
        "CREATE INDEX records_by_run ON records (run_id)",
    ),
    2: (
        "CREATE TABLE schema_version (version INTEGER PRIMARY KEY)",
        "CREATE TABLE runs (id VARCHAR(255) PRIMARY KEY, begun_at TEXT NOT NULL, ended INTEGER NOT NULL)",
        "CREATE TABLE records (id BIGSERIAL PRIMARY KEY, run_id VARCHAR(255) NOT NULL REFERENCES runs (id),"
        " task_key VARCHAR(255) NOT NULL, task_name TEXT NOT NULL, scope VARCHAR(255) NOT NULL,"
        " trial INTEGER NOT NULL, candidate TEXT NOT NULL, proposer TEXT NOT NULL, measurement TEXT NOT NULL,"
        " samples BYTEA NOT NULL, seed BIGINT NOT NULL, created_at TEXT NOT NULL, features BYTEA NOT NULL)",
        "CREATE INDEX records_by_scope_and_task ON records (scope, task_key)",
        "CREATE INDEX records_by_run ON records (run_id)",
    ),
}
"""The statements that made the tables of an earlier schema."""


@pytest.fixture(params=SCHEMAS)
def version(request: pytest.FixtureRequest, url: str) -> int:
    """The earlier schema that the database has now, with the records of the stored database of that version."""
    version: int = request.param
    engine = sa.create_engine(url)
    with closing(sqlite3.connect(ASSETS / f"records-v{version}.db")) as asset, engine.begin() as connection:
        asset.row_factory = sqlite3.Row
        for statement in SCHEMAS[version]:
            connection.execute(sa.text(statement))
        for table in ("schema_version", "records") if version == 1 else ("schema_version", "runs", "records"):
            rows = [dict(row) for row in asset.execute(f"SELECT * FROM {table}")]  # noqa: S608 - our own names
            names, places = ", ".join(rows[0]), ", ".join(f":{name}" for name in rows[0])
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({places})"), rows)  # noqa: S608
        connection.execute(sa.text("SELECT setval(pg_get_serial_sequence('records', 'id'), 9)"))
    engine.dispose()
    return version


def scalars(url: str, statement: str) -> list[object]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        values = list(connection.scalars(sa.text(statement)))
    engine.dispose()
    return values


def test_a_database_of_an_earlier_schema_is_migrated(url: str, version: int) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        features = {"features": bytes(4 * migration.FEATURES)}
        connection.execute(sa.text("UPDATE records SET features = :features WHERE id = 2"), features)
    with SqlStore(url) as store:
        records = store.read()
        assert records[1].columns == migration.COLUMNS
        assert records[:1] + records[2:] == expected(version)[:1] + expected(version)[2:]
        assert store.ended() == {"run-0", "run-1"}
        store.append([make_record(run_id="after")])
        assert store.read()[-1] == make_record(run_id="after")
    structure = (
        "SELECT concat_ws(' ', table_name, column_name, data_type, character_maximum_length, is_nullable)"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1"
    )
    migrated = scalars(url, structure)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    SqlStore(url).close()
    assert migrated == scalars(url, structure)


def test_several_processes_migrate_at_once(url: str, version: int) -> None:
    script = "import sys; from tuner.store import SqlStore; print(len(SqlStore(sys.argv[1]).read()))"

    def read(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=120)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(read, range(3)))
    assert [(d.stdout.strip(), d.stderr) for d in done] == [(str(len(expected(version))), "")] * 3


def test_a_migration_that_is_killed_leaves_the_earlier_schema(url: str, version: int) -> None:
    script = (
        "import os, signal, sys\n"
        "import sqlalchemy as sa\n"
        "from tuner.store import SqlStore\n"
        "def die(connection, cursor, statement, *others):\n"
        "    if statement.startswith('UPDATE schema_version'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sa.event.listen(sa.Engine, 'after_cursor_execute', die)\n"
        "SqlStore(sys.argv[1])\n"
    )
    assert subprocess.run([sys.executable, "-c", script, url]).returncode == -9
    assert scalars(url, "SELECT version FROM schema_version") == [version]
    assert scalars(url, "SELECT count(*) FROM information_schema.tables WHERE table_name = 'environments'") == [0]
    with SqlStore(url) as store:
        assert store.read() == expected(version)


def test_a_server_that_goes_away_is_a_store_error_and_one_that_comes_back_is_used_again(url: str) -> None:
    engine = sa.create_engine(url)
    with SqlStore(url) as store:
        store.append([make_record(trial=1)])
        with engine.begin() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )
        store.append([make_record(trial=2)])  # the dead connection is noticed and replaced
        assert [r.trial for r in store.read()] == [1, 2]
    engine.dispose()
    with pytest.raises(StoreError, match="check that the database is up"):
        SqlStore("postgresql+psycopg://tuner:secret@/nowhere?host=/nonexistent")


def test_one_night_at_a_time_holds_a_history_on_a_server(url: str) -> None:
    with held(url, "a night is going on"):
        with pytest.raises(OutputError, match="a night is going on in it already"), held(url, "a night is going on"):
            pass
        assert not History.is_in(url)
        History(url).close()
        with History(url, reading=True) as history:  # whoever looks is not kept out
            assert history.nights() == []
    with held(url, "a night is going on"):
        pass
