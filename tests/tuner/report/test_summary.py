"""summary.json: what is accepted, what is refused and how it says so, and that writing is all or nothing."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import OutputError, UserError
from tuner.report import summary as summary_file


def changed(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A deep copy with the field at a dotted path replaced; list items are numbers."""
    data = copy.deepcopy(data)
    *parents, last = path.split(".")
    here: Any = data
    for key in parents:
        here = here[int(key)] if isinstance(here, list) else here[key]
    here[int(last) if isinstance(here, list) else last] = value
    return data


def test_round_trip(summary: dict[str, Any], tmp_path: Path) -> None:
    summary_file.save(tmp_path, summary)
    assert summary_file.load(tmp_path) == summary
    assert os.listdir(tmp_path) == ["summary.json"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, r"schema: expected 1, the only one"),
        ("run_id", 7, r"run_id: expected text, found 7"),
        ("model", [], r"model: expected a mapping"),
        ("model.inputs.data", "1x3", r"model\.inputs\.data: expected a list"),
        ("model.inputs.data", [1, 2.5], r"model\.inputs\.data\[1\]: expected a whole number"),
        ("kernels", {}, r"kernels: expected a list"),
        ("kernels.3.tuned_s", "fast", r"kernels\[3\]\.tuned_s: expected a finite number > 0, found 'fast'"),
        ("kernels.3.tuned_s", 0.0, r"kernels\[3\]\.tuned_s"),
        ("kernels.3.tuned_s", -1.0, r"kernels\[3\]\.tuned_s"),
        ("kernels.3.tuned_s", True, r"kernels\[3\]\.tuned_s"),
        ("kernels.3.tuned_s", float("nan"), r"kernels\[3\]\.tuned_s"),
        ("kernels.3.flops", float("inf"), r"kernels\[3\]\.flops"),
        ("kernels.3.flops", 10**400, r"kernels\[3\]\.flops"),
        ("kernels.0.interval_s", [2.0, 1.0], r"kernels\[0\]\.interval_s: expected low <= high"),
        ("kernels.0.interval_s", [2.0], r"kernels\[0\]\.interval_s: expected two numbers"),
        ("kernels.0.verdict", "GREAT", r"kernels\[0\]\.verdict: expected one of FASTER"),
        ("kernels.0.verified", "yes", r"kernels\[0\]\.verified: expected true or false"),
        ("kernels.0.baselines.torch", "x", r"kernels\[0\]\.baselines\.torch"),
        ("search.failed", 3, r"search\.failed: expected a mapping"),
        ("end_to_end.baselines.torch", 0.07, r"end_to_end\.baselines\.torch: expected a mapping"),
        ("export", "model.so", r"export: expected a mapping"),
        ("notes", "all fine", r"notes: expected a list"),
    ],
)
def test_a_wrong_field_is_named(summary: dict[str, Any], path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"summary\.json: {message}"):
        summary_file.validate(changed(summary, path, value))


@pytest.mark.parametrize("key", ["schema", "run_id", "command", "seed", "model", "target", "search", "kernels",
                                 "end_to_end", "export", "environment"])  # fmt: skip
def test_a_missing_field_is_named(summary: dict[str, Any], key: str) -> None:
    del summary[key]
    with pytest.raises(UserError, match=rf"summary\.json: {key}: missing"):
        summary_file.validate(summary)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}', b'{"schema": Infinity}', b"\x00" * 64],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(UserError, match=r"summary\.json: "):
        summary_file.load(tmp_path)


def test_a_folder_without_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"summary\.json: No such file"):
        summary_file.load(tmp_path)


def test_truncated_anywhere_is_one_clear_error(summary: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(summary).encode()
    for end in range(0, len(text) - 1, 97):
        (tmp_path / "summary.json").write_bytes(text[:end])
        with pytest.raises(UserError, match=r"summary\.json: "):
            summary_file.load(tmp_path)


def test_not_a_number_is_never_written(summary: dict[str, Any], tmp_path: Path) -> None:
    summary["environment"] = {"load": float("nan")}
    with pytest.raises(UserError, match="summary"):
        summary_file.save(tmp_path, summary)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_keeps_the_old_file(
    summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary_file.save(tmp_path, summary)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        summary_file.save(tmp_path, summary | {"run_id": "second"})
    assert os.listdir(tmp_path) == ["summary.json"]
    assert summary_file.load(tmp_path)["run_id"] == summary["run_id"]
