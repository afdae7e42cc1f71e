"""The history of nights: what was added is read back, on SQLite and on a server; damage costs its row only."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.tuner import postgres
from tuner.errors import StoreError
from tuner.nights import Acceptance, Cause, CellKey, CellKind, CellNight, Finding, Night, Outcome
from tuner.store import SqlStore, salvage
from tuner.store.history import FORMAT, History

KEY = CellKey("matmul ‘a’", CellKind.KERNEL, "torch:x:y", "4x5", "float32", "llvm", 2, "60 s", 3, "AMD EPYC")
NIGHT = Night(
    "20260101-020000", "2026-01-01T02:00:00+00:00", "abc", "main", "fedcba9876543210", {"numpy": "2.0"}, {"cpu": "x"},
    "configs/nightly.yaml",
)  # fmt: skip
FINDING = Finding(
    "rebuilt/reference", Outcome.WORSE, 0.05, 0.0, 0.05, 0.01, (0.04, 0.06), True, Cause.CODE, ("a sentence",)
)
RESULT = CellNight(
    NIGHT.id, KEY, Outcome.WORSE, "", "20251231-020000", {"reference": 1e-3, "rebuilt": 1.05e-3},
    {"rebuilt/reference": 0.05}, {"rebuilt/reference": (0.04, 0.06)}, {"rebuilt.instructions": 100.0},
    {"rebuilt.code_hash": "ff"}, (FINDING,), ("a note",), {"inputs": [1, 2]}, 12.5,
    {"reference": {0: 1e-3, 2: 1.1e-3}},
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'h.db'}"
    elif why := postgres.missing():
        pytest.skip(why)
    else:
        url = request.getfixturevalue("server")
    with History(url) as history:
        yield history


def fill(history: History) -> None:
    history.begin(NIGHT)
    history.add(RESULT)
    history.end(NIGHT.id, "2026-01-01T03:00:00+00:00", ["all done"])
    history.accept(Acceptance(KEY.id, NIGHT.id, "a new algorithm", "2026-01-02T00:00:00+00:00"))


def test_what_was_added_is_read_back(history: History) -> None:
    fill(history)
    [night] = history.nights()
    assert (night.id, night.number, night.ended_at, night.notes) == (
        NIGHT.id,
        1,
        "2026-01-01T03:00:00+00:00",
        ("all done",),
    )
    assert history.results() == [RESULT]
    assert history.results(cell=KEY.id, night=NIGHT.id, device="AMD EPYC") == [RESULT]
    assert history.results(cell="other") == history.results(device="other") == []
    assert history.samples(KEY.id, NIGHT.id) == RESULT.samples
    assert history.samples(KEY.id, "never") == {}
    assert history.cells() == [(KEY.id, KEY.name)]
    assert [a.why for a in history.acceptances(KEY.id)] == ["a new algorithm"]
    assert history.damaged == 0


def test_order_is_that_of_beginning_whatever_the_clock_says(tmp_path: Path) -> None:
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        for name, at in (("b", "2030-01-01T00:00:00+00:00"), ("a", "1999-01-01T00:00:00+00:00")):
            history.begin(dataclasses.replace(NIGHT, id=name, began_at=at))
            history.add(dataclasses.replace(RESULT, night=name))
        assert [n.id for n in history.nights()] == ["b", "a"]
        assert [r.night for r in history.results(KEY.id)] == ["b", "a"]


def test_a_cell_has_one_result_a_night(tmp_path: Path) -> None:
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        fill(history)
        with pytest.raises(StoreError, match="stored already"):
            history.add(RESULT)
        with pytest.raises(StoreError, match="stored already"):
            history.begin(NIGHT)


def test_export_and_import_give_the_same_history(tmp_path: Path) -> None:
    with History(f"sqlite:///{tmp_path / 'a.db'}") as first, History(f"sqlite:///{tmp_path / 'b.db'}") as second:
        fill(first)
        lines = list(first.export())
        assert second.import_lines(lines) == (3, 0)
        assert list(second.export()) == lines
        assert second.import_lines(lines) == (0, 0)  # again: nothing new
        assert second.samples(KEY.id, NIGHT.id) == RESULT.samples


def test_a_torn_export_is_read_up_to_the_tear(tmp_path: Path) -> None:
    with History(f"sqlite:///{tmp_path / 'a.db'}") as first, History(f"sqlite:///{tmp_path / 'b.db'}") as second:
        fill(first)
        lines = list(first.export())
        assert second.import_lines([*lines[:-1], lines[-1][: len(lines[-1]) // 2]]) == (2, 1)
        with pytest.raises(ValueError, match=FORMAT):
            second.import_lines(["{}", *lines])
        with pytest.raises(ValueError, match=FORMAT):
            second.import_lines(["no json"])


@pytest.mark.parametrize(
    "content", ["no json", "[]", "{}", json.dumps(RESULT.to_json() | {"seconds": {"a": "b"}}), b"\xff"]
)
def test_a_row_that_cannot_be_understood_costs_itself(tmp_path: Path, content: object) -> None:
    file = tmp_path / "h.db"
    with History(f"sqlite:///{file}") as history:
        fill(history)
        history.begin(dataclasses.replace(NIGHT, id="next"))
        history.add(dataclasses.replace(RESULT, night="next"))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE night_cells SET content = ? WHERE number = 1", (content,))
        connection.commit()
    with History(f"sqlite:///{file}") as history:
        assert [r.night for r in history.results()] == ["next"]
        assert history.damaged == 1


def test_a_damaged_file_is_set_aside_and_its_nights_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "h.db"
    url = f"sqlite:///{file}"
    SqlStore(url).close()
    with History(url) as history:
        fill(history)
        for number in range(60):
            night = f"n{number:03d}"
            history.begin(dataclasses.replace(NIGHT, id=night))
            history.add(dataclasses.replace(RESULT, night=night, notes=("x" * 2000,)))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = file.stat().st_size // 4096
    data = bytearray(file.read_bytes())
    data[4096 * (pages // 2) : 4096 * (pages // 2 + 1)] = b"\xa5" * 4096
    file.write_bytes(data)
    said: list[str] = []
    salvage.open_store(url, said.append).close()
    assert len(said) == 1 and "set aside" in said[0]
    with History(url) as history:
        assert len(history.nights()) == 61
        assert len(history.results()) > 45
        assert history.acceptances()


def test_a_writer_that_is_killed_leaves_whole_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'h.db'}"
    script = (
        "import dataclasses, os, signal, sys, threading\n"
        "from tests.tuner.store.test_history import NIGHT, RESULT\n"
        "from tuner.store.history import History\n"
        "history = History(sys.argv[1])\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "for number in range(10**9):\n"
        "    history.begin(dataclasses.replace(NIGHT, id=str(number)))\n"
        "    history.add(dataclasses.replace(RESULT, night=str(number)))\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", script, url], cwd=root, capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr
    with History(url) as history:
        nights, results = history.nights(), history.results()
        assert history.damaged == 0
        assert len(nights) - len(results) in (0, 1)
