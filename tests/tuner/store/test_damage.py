"""A damaged record database is set aside, never deleted, and what can be read of it is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contracts.record_store import make_record
from tuner.errors import StoreError
from tuner.records import Record
from tuner.store import SqlStore
from tuner.store.salvage import open_store

PAGE = 4096


def records(count: int) -> list[Record]:
    columns = tuple(f"column.{n}" for n in range(200))
    return [
        make_record(run_id=f"run-{n // 100}", trial=n, features=(float(n),) * 200, columns=columns)
        for n in range(count)
    ]


def fill(path: Path, count: int = 120) -> str:
    url = f"sqlite:///{path}"
    with SqlStore(url) as store:
        store.add_environment(make_record().environment, {"cpu": "a CPU"})
        store.append(records(count))
        store.end("run-0")
    assert not path.with_name(f"{path.name}-wal").exists()  # all in one file, so that a page of it can be damaged
    return url


def damage(path: Path, page: int) -> None:
    with open(path, "r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xa5" * PAGE)


def test_a_damaged_page_costs_its_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    url = fill(path)
    for page in (20, 21, 30):
        damage(path, page)
    before = path.read_bytes()
    messages: list[str] = []
    with open_store(url, messages.append) as store:
        restored = store.read()
        assert 80 <= len(restored) < 120
        assert restored == [record for record in records(120) if record in restored]  # whole, in order
        assert {r.trial for r in restored} >= {0, 119}  # from both ends
        assert store.ended() == {"run-0"}
        assert store.environment(make_record().environment) == {"cpu": "a CPU"}
        store.append([make_record(run_id="after")])
    [sentence] = messages
    assert "records.db" in sentence
    assert f"{len(restored)} records" in sentence
    assert (tmp_path / "records.db.damaged-1").read_bytes() == before
    messages.clear()
    with open_store(url, messages.append) as store:
        assert [r.run_id for r in store.read()][-1] == "after"
    assert not messages


def test_whatever_page_is_damaged_the_file_is_kept_and_the_error_is_typed(tmp_path: Path) -> None:
    url = fill(tmp_path / "whole.db", count=30)
    whole = (tmp_path / "whole.db").read_bytes()
    outcomes = []
    for page in range(len(whole) // PAGE):
        path = tmp_path / f"{page}.db"
        path.write_bytes(whole)
        damage(path, page)
        before = path.read_bytes()
        try:
            with open_store(url.replace("whole", str(page)), lambda text: None) as store:
                store.append([make_record()])
                outcomes.append(len(store.read()) - 1)
        except StoreError as error:
            assert page == 0, error  # without its header it may be any file of the user's: refused, left alone
            assert path.read_bytes() == before
            continue
        aside = tmp_path / f"{page}.db.damaged-1"
        assert aside.read_bytes() == before
    assert min(outcomes) >= 0
    assert max(outcomes) >= 28


def test_set_aside_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    (tmp_path / "records.db.damaged-1").write_text("of the user")
    url = fill(path)
    damage(path, 12)
    open_store(url, lambda text: None).close()
    assert (tmp_path / "records.db.damaged-1").read_text() == "of the user"
    assert (tmp_path / "records.db.damaged-2").exists()


def killed_with_a_log(path: Path) -> str:
    """A database whose last records are in its write-ahead log only."""
    script = (
        "import os, signal, sys\n"
        "from tuner.store import SqlStore\n"
        "from tests.contracts.record_store import make_record\n"
        "store = SqlStore(sys.argv[1])\n"
        "for trial in range(20): store.append([make_record(trial=trial)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    url = f"sqlite:///{path}"
    assert subprocess.run([sys.executable, "-c", script, url]).returncode == -9
    assert path.with_name("records.db-wal").stat().st_size > 0
    return url


def _cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3 + 7]


def _scribble(content: bytes) -> bytes:
    middle = len(content) * 2 // 3
    return content[:middle] + b"\xa5" * 100 + content[middle + 100 :]


@pytest.mark.parametrize("change", [_cut, _scribble])
def test_a_torn_log_costs_its_end_only(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "records.db"
    url = killed_with_a_log(path)
    log = path.with_name("records.db-wal")
    log.write_bytes(change(log.read_bytes()))
    with open_store(url, lambda text: None) as store:
        trials = [r.trial for r in store.read()]
        assert trials == list(range(len(trials)))
        assert 5 < len(trials) < 20
        store.append([make_record()])


def test_a_torn_index_of_the_log_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    url = killed_with_a_log(path)
    path.with_name("records.db-shm").write_bytes(b"\xa5" * 32768)
    with open_store(url, lambda text: None) as store:
        assert [r.trial for r in store.read()] == list(range(20))


def test_two_processes_that_find_the_damage_make_one_new_database(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    url = fill(path)
    damage(path, 20)
    script = (
        "import sys, time\n"
        "from tuner.errors import OutputError\n"
        "from tuner.store.salvage import open_store\n"
        "while True:\n"
        "    try:\n"
        "        print(len(open_store(sys.argv[1], lambda text: None).read()))\n"
        "        break\n"
        "    except OutputError:\n"
        "        time.sleep(0.05)\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE) for _ in range(3)]
    counts = {int(child.communicate(timeout=60)[0]) for child in children}
    assert len(counts) == 1
    assert counts.pop() > 100
    aside = {p.name for p in tmp_path.glob("*.damaged-*")}  # with its log, where it had one
    assert aside - {"records.db.damaged-1-wal", "records.db.damaged-1-shm"} == {"records.db.damaged-1"}
