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


def test_a_wrong_model_may_be_off_by_any_number(summary: dict[str, Any], tmp_path: Path) -> None:
    wrong = changed(summary, "end_to_end.max_abs_error", 6.4e35)
    summary_file.save(tmp_path, wrong)
    assert summary_file.load(tmp_path) == wrong


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
        ("end_to_end.ratios", {"torch": 0.0}, r"end_to_end\.ratios\.torch: expected a finite number > 0"),
        ("end_to_end.state", "asleep", r"end_to_end\.state: expected one of together, apart"),
        ("end_to_end.states", {"apart": {}}, r"end_to_end\.states\.apart\.round_trip_s: missing"),
        (
            "end_to_end.first_calls",
            {"torch": {"median_s": 1.0}},
            r"end_to_end\.first_calls\.torch\.interval_s: missing",
        ),
        ("end_to_end.peak_bytes", {"torch": -1}, r"end_to_end\.peak_bytes\.torch: expected a whole number"),
        ("kernels.0.ratio", -0.5, r"kernels\[0\]\.ratio"),
        ("search.failed", 3, r"search\.failed: expected a mapping"),
        ("end_to_end.baselines.torch", 0.07, r"end_to_end\.baselines\.torch: expected a mapping"),
        ("export", "model.so", r"export: expected a mapping"),
        ("notes", "all fine", r"notes: expected a list"),
    ],
)
def test_a_wrong_field_is_named(summary: dict[str, Any], path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"summary\.json: {message}"):
        summary_file.validate(changed(summary, path, value))


def test_renamed_keys_are_written_under_both_names_and_read_under_the_new_one(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    metadata = {"fidelity": "certify", "samples": "30"}
    summary["kernels"][0] |= {"remeasurement_shift": 0.02, "metadata": metadata}
    summary["kernels"][1] |= {"remeasurement_shift": None, "metadata": None}
    summary_file.save(tmp_path, summary)
    written = json.loads((tmp_path / "summary.json").read_text())
    first, second = written["kernels"][:2]
    assert written["aliases"].items() >= {"shrank": "remeasurement_shift", "certificate": "metadata"}.items()
    assert first["shrank"] == first["remeasurement_shift"] == 0.02
    assert first["metadata"] == metadata
    assert first["certificate"] == {**metadata, "tier": "certify"}
    for name in ("shrank", "remeasurement_shift", "certificate", "metadata"):
        assert second[name] is None
    assert "shrank" not in written["kernels"][2]
    assert summary_file.load(tmp_path) == summary


@pytest.mark.parametrize("wrong", [{"shrank": "much"}, {"certificate": [1]}, {"metadata": {"samples": 30}}])
def test_what_is_wrong_is_refused_under_either_name(summary: dict[str, Any], wrong: dict[str, Any]) -> None:
    summary["kernels"][0] |= wrong
    with pytest.raises(UserError, match=rf"kernels\[0\]\.{next(iter(wrong))}"):
        summary_file.validate(summary)


def test_a_summary_of_an_earlier_version_is_read_under_the_new_names() -> None:
    """The one that is kept beside the results: schema 1, of before the keys were renamed."""
    folder = Path(__file__).parents[3] / "results" / "amd-epyc" / "resnet50"
    stored = json.loads((folder / "summary.json").read_text())["kernels"]
    loaded = summary_file.load(folder)["kernels"]
    assert any(kernel["shrank"] for kernel in stored)
    assert [kernel["remeasurement_shift"] for kernel in loaded] == [kernel["shrank"] for kernel in stored]
    assert not {"shrank", "certificate"} & {key for kernel in loaded for key in kernel}
    for old, new in zip(stored, loaded, strict=True):
        if old["certificate"] is not None:
            assert new["metadata"]["fidelity"] == old["certificate"]["tier"]
            assert new["metadata"]["samples"] == old["certificate"]["samples"]


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
