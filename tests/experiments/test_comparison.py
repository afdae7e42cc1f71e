"""The table of experiments/comparison, and which of its rows count."""

from __future__ import annotations

from typing import Any

from experiments.comparison.results import finding, report


def row(state: str | None, ratio: float, **changes: Any) -> dict[str, Any]:
    common = {"baseline": "torch", "blocks": [9, 9, 9], "alone_s": 0.04, "again": 1.001, "first_call_s": 0.06}
    return {**common, "state": state, "ratio": ratio, "compared_s": ratio * 0.04, **changes}


def test_figures_of_mixed_states_do_not_count() -> None:
    lines = [
        {"model": "net", "busy": False, "rows": [row("together", 1.01), row("apart", 0.985), row("mixed", 1.4)]},
        {"model": "net", "busy": True, "rows": [row(None, 1.03, again=None, first_call_s=None)]},
    ]
    assert finding(lines) == "2 of 3 within 2%; from 0.985 to 1.030 of alone"
    *table, last = report(lines)
    assert last == finding(lines)
    assert table[2] == "| net | no | torch | together | 40 | 1.010 | 1.001 | 60 |"
    assert table[5] == "| net | yes | torch | – | 40 | 1.030 | – | – |"


def test_an_empty_file_says_so() -> None:
    assert finding([]) == "nothing was compared"
