"""The store on a real PostgreSQL server: the same contract as on SQLite, and what only a server does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from tests.contracts.record_store import RecordStoreContract, make_record
from tests.tuner import postgres
from tests.tuner.store.test_migration import expected, rows_of_schema_1
from tuner.errors import StoreError
from tuner.store import SqlStore, schema

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


def test_a_database_of_schema_1_is_migrated(url: str) -> None:
    old = rows_of_schema_1()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO schema_version VALUES (1)"))
        connection.execute(
            sa.text(
                "CREATE TABLE records (id BIGSERIAL PRIMARY KEY, run_id VARCHAR(255) NOT NULL,"
                " task_key VARCHAR(255) NOT NULL, task_name TEXT NOT NULL, scope VARCHAR(255) NOT NULL,"
                " trial INTEGER NOT NULL, candidate TEXT NOT NULL, proposer TEXT NOT NULL, measurement TEXT NOT NULL,"
                " seed BIGINT NOT NULL, created_at TEXT NOT NULL, features BYTEA NOT NULL)"
            )
        )
        connection.execute(sa.text("CREATE INDEX records_by_scope_and_task ON records (scope, task_key)"))
        connection.execute(sa.text("CREATE INDEX records_by_run ON records (run_id)"))
        names = ", ".join(old[0])
        places = ", ".join(f":{name}" for name in old[0])
        connection.execute(sa.text(f"INSERT INTO records ({names}) VALUES ({places})"), old)  # noqa: S608
    with SqlStore(url) as store:
        assert store.read() == expected()
        store.append([make_record(run_id="after")])
        assert store.read()[-1].run_id == "after"
        assert schema.versions(engine) == [schema.SCHEMA_VERSION]
    engine.dispose()


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
