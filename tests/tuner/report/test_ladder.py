"""What is shown of a kernel's ladder: table, text, page, picture, and the report's section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuner.report import figures, html, ladder, ladder_page
from tuner.report.tables import Kernel


def told(**changes: Any) -> dict[str, Any]:
    """A ladder of three rungs, of which the second could not be timed."""
    rung = {
        "done": ["loops are cut"],
        "refused": [],
        "counted": [],
        "tree": "for i 8",
        "reason": "",
        "predicted_s": None,
    }
    rungs = [
        {**rung, "title": "unscheduled", "seconds": 8e-3, "interval_s": [7.9e-3, 8.1e-3]},
        {**rung, "title": "tile", "seconds": None, "interval_s": None, "reason": "build failed: no thread"},
        {
            **rung, "title": "unroll{depth=16}", "seconds": 2e-3, "interval_s": None, "predicted_s": 1e-3,
            "refused": ["x{on=1}: no"], "counted": ["loops: 4 to 2"],
            "scalar": ["k: gathered elements of a", "i: bounds that vary"],
        },
    ]  # fmt: skip
    listing = {"language": "asm", "code": "mov\nret", "hot": "mov", "note": ""}
    return {
        "run": "a-run", "task": "0123456789abcdef", "name": "conv <b>", "candidate": "[0,[],\"\"]", "device": "a CPU",
        "threads": 2, "mode": "hot", "lower_bound_s": 1e-3, "flops": 1.0, "rungs": rungs, "listing": listing, **changes,
    }  # fmt: skip


def test_the_table_has_a_row_a_rung() -> None:
    rows = ladder.table(told()).rows
    assert rows[0] == ("0. unscheduled", "–", "8.00 ms", "7.90 ms to 8.10 ms", "–")
    assert rows[1] == ("1. tile", "–", "not timed (build failed: no thread)", "–", "–")
    assert rows[2] == ("2. unroll{depth=16}", "1.00 ms", "2.00 ms", "–", "×4.00")


def test_the_text_says_what_was_done_and_refused() -> None:
    text = "\n".join(ladder.text(told(), code=False))
    assert "   Loops are cut." in text
    assert "Refused, so it changes nothing: x{on=1}: no." in text
    assert "Counted: loops: 4 to 2." in text
    assert text.count("Loops that are no vectors: k: gathered elements of a; i: bounds that vary.") == 1
    assert "Not timed: build failed: no thread." in text
    assert "  mov" in text
    assert "ret" not in text
    assert "  ret" in "\n".join(ladder.text(told(), code=True))
    assert "From 8.00 ms to 2.00 ms: ×4.00 the speed." in text


def test_what_padding_costs_is_said() -> None:
    assert list(ladder.headline(told(padded_share=0.125)))[-1] == (
        "12 % of its multiply-adds are padding, for whole tiles and vectors."
    )
    for share in (0.0, None):
        assert "padding" not in " ".join(ladder.headline(told(padded_share=share)))


def test_the_page_escapes_names() -> None:
    page = html.render(ladder_page.page(told()))
    assert "conv &lt;b&gt;" in page
    assert "<b>" not in page
    assert "data:image/png" in page


def test_a_ladder_without_times_has_no_picture() -> None:
    rungs = [{**rung, "seconds": None, "reason": "gone"} for rung in told()["rungs"]]
    assert figures.ladder(told(rungs=rungs)) is None
    assert list(ladder.headline(told(rungs=rungs))) == ["Not all of its steps could be timed."]
    assert "Not timed: gone." in html.render(ladder_page.page(told(rungs=rungs)))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rungs": []}', '{"rungs": [{"title": 3}]}', "\udcff"])
def test_a_damaged_ladder_is_left_out(content: str, tmp_path: Path) -> None:
    ladder_page.write(tmp_path, told())
    (tmp_path / ladder.FOLDER / "broken.json").write_text(content, errors="surrogateescape")
    assert ladder.load_all(tmp_path) == [json.loads(json.dumps(told()))]


def test_the_report_shows_the_heaviest_kernels_that_were_explained() -> None:
    def kernel(task: str, share: float) -> Kernel:
        return Kernel(1, {"task": task}, None, share, None, None, None, None, None)

    kernels = [kernel(f"{n:016x}", n / 10) for n in range(8)]
    of_run = [told(task=f"{n:016x}") for n in range(8)]
    shown = ladder.heaviest([*of_run, told(task="of another run")], kernels)
    assert [one["task"] for one in shown] == [f"{n:016x}" for n in (7, 6, 5, 4)]
    assert ladder.heaviest([], kernels) == []
