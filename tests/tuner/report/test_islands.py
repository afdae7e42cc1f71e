"""What the report says of a model with islands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuner import report
from tuner.errors import UserError
from tuner.report import document, islands
from tuner.report import summary as summary_file


def node(operator: str, reason: str, follows: bool = False) -> dict[str, Any]:
    return {"operator": operator, "node": f"{operator} of node 'n<1>'", "reason": reason, "follows": follows}


def with_parts(summary: dict[str, Any], seconds: tuple[float | None, ...] = (3e-3, 1e-3)) -> dict[str, Any]:
    nodes = [
        node("NonMaxSuppression", "its shape depends on the data"), node("Gather", "it waits", True),
        node("Gather", "it waits", True),
    ]  # fmt: skip
    kinds = zip(("tuned", "island"), seconds, ([], nodes), strict=True)
    summary["parts"] = [{"kind": kind, "seconds": s, "nodes": listed} for kind, s, listed in kinds]
    summary_file.validate(summary)
    return summary


def test_the_share_that_is_tuned_is_measured(summary: dict[str, Any]) -> None:
    assert islands.tuned_share(with_parts(summary)) == 0.75
    assert islands.sentence(summary) == (
        "75.0 % of its time is tuned; 1 island of 3 nodes in ONNX Runtime, for NonMaxSuppression"
    )
    rows = islands.table(summary).rows
    assert [row[:4] for row in rows] == [("1", "tuned", "3.00 ms", "75.0 %"), ("2", "island", "1.00 ms", "25.0 %")]
    assert rows[1][4].startswith("NonMaxSuppression of node 'n<1>': its shape depends on the data; with what depends")
    assert rows[1][4].endswith("2 Gather")


def test_without_times_the_parts_are_still_named(summary: dict[str, Any]) -> None:
    assert islands.tuned_share(with_parts(summary, (None, None))) is None
    assert islands.sentence(summary) == "1 island of 3 nodes in ONNX Runtime, for NonMaxSuppression"
    assert {row[2] for row in islands.table(summary).rows} == {"–"}


def test_many_causes_are_counted(summary: dict[str, Any]) -> None:
    with_parts(summary)["parts"][1]["nodes"] = [node("NonZero", "it depends") for _ in range(50)]
    assert "for NonZero (50)" in islands.sentence(summary)
    assert islands.table(summary).rows[1][4].endswith("and 30 more")


def test_a_section_of_the_report(summary: dict[str, Any]) -> None:
    titles = [section.title for section in document.build(summary, [], None, None).sections]
    assert "Parts that are not tuned" not in titles
    assert islands.sentence(summary) == ""
    titles = [section.title for section in document.build(with_parts(summary), [], None, None).sections]
    assert "Parts that are not tuned" in titles


def test_names_are_escaped(summary: dict[str, Any], tmp_path: Path) -> None:
    summary_file.save(tmp_path, with_parts(summary))
    report.render(tmp_path, [], ("html",))
    text = (tmp_path / "report.html").read_text()
    assert "n&lt;1&gt;" in text
    assert "n<1>" not in text


@pytest.mark.parametrize("wrong", [{"seconds": -1.0}, {"nodes": [{"operator": "If"}]}, {"kind": 3}])
def test_a_damaged_part_is_named(summary: dict[str, Any], wrong: dict[str, Any]) -> None:
    with_parts(summary)["parts"][1].update(wrong)
    with pytest.raises(UserError, match=r"parts\[1\]"):
        summary_file.validate(summary)
