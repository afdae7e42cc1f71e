"""Importing measurements: each once, in the scope of the device that made them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.tuner.bundle import small
from tests.tuner.bundle.test_measurements import HEADER, ROWS, written
from tuner import cli, environment
from tuner.bundle.measurements import TaskKernels, Writer
from tuner.commands.import_ import import_measurements
from tuner.errors import BundleError, TargetError
from tuner.progress import Progress
from tuner.records import Record
from tuner.store import SqlStore


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.db'}"


def stored(database: str) -> list[Record]:
    with SqlStore(database) as store:
        return store.read()


def test_what_was_measured_is_stored_with_its_device(tmp_path: Path, database: str) -> None:
    line, *_ = import_measurements(written(tmp_path / "m.jsonl"), database, Progress())
    assert line == f"imported 3 of 3 measurements on A GPU into {database}: 1 ok, 1 censored, 1 run failed"
    records = stored(database)
    assert [record.candidate for record in records] == [row.candidate for row in ROWS]
    assert {record.run_id for record in records} == {f"bundle-{HEADER.bundle_sha256[:12]}"}
    assert {record.measurement.conditions.device for record in records} == {"A GPU"}
    assert {record.scope for record in records} == {environment.gpu_scope_key("cuda", HEADER.target, "A GPU", "cold")}
    assert [record.trial for record in records] == [1, 2, 3]
    assert records[0].measurement.samples_s == ROWS[0].measurement.samples_s
    assert (records[0].task_key, records[0].task_name, records[0].seed) == (small.KEY, "double", 7)


def test_twice_is_once_and_what_was_added_since_is_new(tmp_path: Path, database: str) -> None:
    first = written(tmp_path / "m.jsonl", ROWS[:2])
    import_measurements(first, database, Progress())
    line, *_ = import_measurements(first, database, Progress())
    assert "imported 0 of 2" in line
    assert line.endswith("nothing new")
    writer = Writer(first, HEADER)
    writer.add(ROWS[2])
    writer.close()
    assert "imported 1 of 3" in import_measurements(first, database, Progress())[0]
    assert [record.trial for record in stored(database)] == [1, 2, 3]


def test_devices_have_scopes_of_their_own(tmp_path: Path, database: str) -> None:
    other = dataclasses.replace(ROWS[0], device="Another GPU", candidate='[9,[],""]')
    line, *_ = import_measurements(written(tmp_path / "m.jsonl", [ROWS[0], other]), database, Progress())
    assert "on A GPU, Another GPU into" in line
    assert len({record.scope for record in stored(database)}) == 2


def test_measurements_of_a_device_that_is_not_known_are_refused(tmp_path: Path, database: str) -> None:
    path = written(tmp_path / "m.jsonl")
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(header), "target": '{"kind":"metal"}'}) + "\n" + "".join(rows))
    with pytest.raises(TargetError, match="no kind of device"):
        import_measurements(path, database, Progress())
    assert not (tmp_path / "records.db").exists()


def test_a_row_that_is_no_candidate_is_refused_and_nothing_is_stored(tmp_path: Path, database: str) -> None:
    bad = dataclasses.replace(ROWS[1], candidate="not a candidate")
    with pytest.raises(BundleError, match="line 3"):
        import_measurements(written(tmp_path / "m.jsonl", [ROWS[0], bad]), database, Progress())
    assert not (tmp_path / "records.db").exists()


def test_what_a_cut_file_lacks_is_said(tmp_path: Path, database: str) -> None:
    header = dataclasses.replace(HEADER, tasks=(TaskKernels(small.KEY, "double", 9),))
    path = written(tmp_path / "m.jsonl", header=header)
    path.write_bytes(path.read_bytes()[:-20])
    line, *missing = import_measurements(path, database, Progress())
    assert line.startswith("imported 2 of 2 measurements")
    assert missing[:2] == [
        "the last line is cut off, and left out", "1 of 9 kernels of the bundle were screened; missing: 8 of double",
    ]  # fmt: skip


def test_command(tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "m.jsonl")
    assert cli.main(["import", str(path), "--database", database]) == 0
    assert capsys.readouterr().out.startswith("imported 3 of 3 measurements")
    assert cli.main(["import", str(tmp_path / "nowhere"), "--database", database]) == 2
    assert "cannot be read" in capsys.readouterr().err
