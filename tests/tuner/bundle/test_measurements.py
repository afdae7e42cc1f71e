"""The file of measurements: what is written is read, a torn end is gone on with, a stranger's line is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.bundle import small
from tuner.bundle.measurements import (
    FORMAT,
    Header,
    Row,
    TaskKernels,
    Writer,
    read_measurements,
    what_is_missing,
)
from tuner.errors import BundleError, OutputError
from tuner.records import PROTOCOL_VERSION, Conditions, Fidelity, Measurement, Status

HEADER = Header(FORMAT, "a" * 64, '{"kind":"cuda"}', "cold", PROTOCOL_VERSION, "replay", ("A GPU",))
OK = Measurement(
    Status.OK, (1e-5, 1.1e-5), Fidelity.RANK, "half-width", max_abs_error=1e-7, run_s=0.25,
    conditions=Conditions(
        details={"before": {"sm_clock_mhz": 1980}, "late": [True, False], "odd": None, "worse": float("nan")}
    ),
)  # fmt: skip
ROWS = [
    Row(small.KEY, "double", '[0,[],""]', "random", 7, "A GPU", "2026-11-22T12:00:00.000+00:00", OK),
    Row(small.KEY, "double", '[1,[],""]', "random", 7, "A GPU", "2026-11-22T12:00:01.000+00:00",
        Measurement(Status.CENSORED, reason="over 1 s", censored_at_s=1.0)),
    Row(small.KEY, "double", '[2,[],""]', "random", 7, "A GPU", "2026-11-22T12:00:02.000+00:00",
        Measurement(Status.RUN_FAILED, reason="an illegal memory access")),
]  # fmt: skip


def written(path: Path, rows: list[Row] = ROWS, header: Header = HEADER) -> Path:
    writer = Writer(path, header)
    for row in rows:
        writer.add(row)
    writer.close()
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    header, rows = read_measurements(written(tmp_path / "m.jsonl"))
    assert header == HEADER
    known = {"before": {"sm_clock_mhz": 1980}, "late": [True, False]}
    assert rows[0] == dataclasses.replace(
        ROWS[0], measurement=dataclasses.replace(OK, conditions=Conditions.from_json(known))
    )
    assert rows[1:] == ROWS[1:]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_last_line_is_left_out_and_then_written_again(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "m.jsonl")
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(read_measurements(path)[1]) == 2
    writer = Writer(path, HEADER)
    assert [row.key for row in writer.done] == [row.key for row in ROWS[:2]]
    writer.add(ROWS[2])
    writer.close()
    assert [row.key for row in read_measurements(path)[1]] == [row.key for row in ROWS]


def test_measurements_of_another_bundle_are_not_mixed(tmp_path: Path) -> None:
    path = written(tmp_path / "m.jsonl")
    with pytest.raises(BundleError, match="of bundle aaaaaaaaaaaa by replay, this is bbbbbbbbbbbb by replay"):
        Writer(path, dataclasses.replace(HEADER, bundle_sha256="b" * 64))


def test_a_file_has_one_writer_at_a_time(tmp_path: Path) -> None:
    first = Writer(tmp_path / "m.jsonl", HEADER)
    with pytest.raises(OutputError, match="another `measure` is writing to it"):
        Writer(tmp_path / "m.jsonl", HEADER)
    first.add(ROWS[0])
    first.close()
    second = Writer(tmp_path / "m.jsonl", HEADER)
    second.close()
    assert [row.key for row in second.done] == [ROWS[0].key]
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"], "no lock is left"


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    tasks = (TaskKernels(small.KEY, "double", 2), TaskKernels("f" * 16, "other", 3))
    header = dataclasses.replace(HEADER, tasks=tasks)
    screened, certified = (
        dataclasses.replace(ROWS[0], measurement=dataclasses.replace(OK, fidelity=fidelity))
        for fidelity in (Fidelity.SCREEN, Fidelity.CERTIFY)
    )
    path = written(tmp_path / "m.jsonl", [screened, ROWS[1]], header)
    assert what_is_missing(path, *read_measurements(path)) == [
        "2 of 5 kernels of the bundle were screened; missing: 3 of other", "no time was certified of: double",
        "what is missing is measured when `measure` is started again with the same file",
    ]  # fmt: skip
    path.write_bytes(path.read_bytes()[:-9])
    cut, counted, *_ = what_is_missing(path, *read_measurements(path))
    assert cut == "the last line is cut off, and left out"
    assert counted == "1 of 5 kernels of the bundle were screened; missing: 1 of double, 3 of other"
    whole = dataclasses.replace(HEADER, tasks=tasks[:1])
    path = written(tmp_path / "whole.jsonl", [screened, ROWS[1], certified], whole)
    assert what_is_missing(path, *read_measurements(path)) == []


def test_a_bundle_and_a_folder_are_named_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a bundle, and no measurements") as caught:
        read_measurements(small.bundle(tmp_path / "b.tar"))
    assert "tuner measure" in caught.value.hint
    with pytest.raises(BundleError, match="a folder, and no file of measurements"):
        read_measurements(tmp_path)


def broken(line: dict[str, Any], **changes: Any) -> dict[str, Any]:
    measured = {**line["measurement"], **{k[2:]: v for k, v in changes.items() if k.startswith("m_")}}
    return {**line, **{k: v for k, v in changes.items() if not k.startswith("m_")}, "measurement": measured}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "x"}, "16 hex digits"),
        ({"candidate": "x\x1b[2J"}, "printable"),
        ({"seed": -1}, "a count"),
        ({"m_status": "best"}, "one of"),
        ({"m_tier": "gold"}, "one of"),
        ({"m_samples": []}, "with 0 samples"),
        ({"m_samples": [0.0]}, "positive"),
        ({"m_samples": [-1e-6]}, "positive"),
        ({"m_samples": ["1"]}, "a number"),
        ({"m_samples": [float("inf")]}, "a number"),
        ({"m_status": "run failed"}, "with 2 samples"),
        ({"m_censored_at": 1.0}, "censored"),
        ({"m_conditions": {str(n): n for n in range(100)}}, "100 conditions"),
        ({"m_conditions": {"x": None}}, "nothing"),
    ],
)
def test_a_line_that_lies_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = written(tmp_path / "m.jsonl")
    header, first, *_ = path.read_text().splitlines()
    path.write_text("\n".join([header, json.dumps(broken(json.loads(first), **changes)), ""]))
    with pytest.raises(BundleError, match=f"line 2: .*{words}"):
        read_measurements(path)


def test_a_candidate_that_is_none_is_named(tmp_path: Path) -> None:
    def check(text: str) -> None:
        raise ValueError(f"not a candidate: {text}")

    with pytest.raises(BundleError, match="line 2: not a candidate"):
        read_measurements(written(tmp_path / "m.jsonl"), check)


@pytest.mark.parametrize("content", ["", "\n", "{}\n", "[1]\n", "null\n", '{"format": 1}\n', "x" * 5_000_000 + "\n"])
def test_what_is_no_file_of_measurements_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(BundleError):
        read_measurements(path)


def test_another_timing_protocol_is_not_comparable(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Writer(path, dataclasses.replace(HEADER, protocol=PROTOCOL_VERSION + 1)).close()
    with pytest.raises(BundleError, match="protocol"):
        read_measurements(path)
