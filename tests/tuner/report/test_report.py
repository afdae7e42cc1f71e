"""The rendered report: full, partial and hostile runs."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import UserError
from tuner.records import Record
from tuner.report import document, render, tables, units
from tuner.report import summary as summary_file

SCRIPT = "<script>alert(1)</script>"
FORMULA = "=cmd|' /C calc'!A0"
HOSTILE = (
    SCRIPT,
    FORMULA,
    '"><img src=x onerror=alert(1)>',
    "$\\frac{$",
    "| a | b |\n# x `y` [z](http://evil)",
    "卷积\x00\x1b",
)


class Page(html.parser.HTMLParser):
    """Every tag with its attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(run_dir: Path, summary: dict[str, Any], records: list[Record]) -> tuple[Page, str, list[list[str]]]:
    summary_file.save(run_dir, summary)
    render(run_dir, records)
    with open(run_dir / "kernels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return Page((run_dir / "report.html").read_text()), (run_dir / "report.md").read_text(), rows


def check_self_contained(page: Page) -> None:
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "p", "div",
               "figure", "img", "table", "thead", "tbody", "tr", "th", "td", "pre"}  # fmt: skip
    assert {tag for tag, _ in page.tags} <= allowed
    for tag, attributes in page.tags:
        assert attributes.keys() <= {"lang", "charset", "name", "content", "http-equiv", "class", "src", "alt", "scope",
                                     "data-label"}  # fmt: skip
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,")


def test_full_run(summary: dict[str, Any], records: list[Record], tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"cpu": {"model": "Example CPU", "features": ["avx2"]}}))
    (tmp_path / "config.yaml").write_text("model:\n  source: onnx:light_resnet50\n")
    page, markdown, rows = rendered(tmp_path, summary, records)
    check_self_contained(page)
    verdict = (
        "ResNet-50 runs in 43.1 ms [42.8, 43.5]: ×120 faster than untuned TVM, and ×1.05 faster than the best"
        " baseline (ONNX Runtime, 45.2 ms); all outputs verified (max relative error 2e-6)."
    )
    assert verdict in page.text
    assert page.text.index(verdict) < page.text.index("End to end")
    for text in (page.text, markdown):
        for word in ("×120", "torch.compile", "86.7 %", "LLVM: out of registers", "cpu.model", "Example CPU",
                     "python -m tuner run configs/resnet.yaml", "source: onnx:light_resnet50"):  # fmt: skip
            assert word in text
    assert [tag for tag, _ in page.tags].count("img") == 4
    for name in ("end_to_end", "search_model", "search_tasks", "roofline"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(figures/{name}.png)" in markdown
    assert len(rows) == 1 + len(summary["kernels"])
    first = dict(zip(rows[0], rows[1], strict=True))
    assert first["rank"] == "1"
    assert (
        float(first["tuned_s"]) == max(summary["kernels"], key=lambda k: (k["tuned_s"] or 0) * k["weight"])["tuned_s"]
    )


def test_formats_are_those_asked_for(summary: dict[str, Any], records: list[Record], tmp_path: Path) -> None:
    summary_file.save(tmp_path, summary)
    assert render(tmp_path, records, ("csv",)) == [tmp_path / "kernels.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels.csv", "summary.json"]
    with pytest.raises(UserError, match="pdf"):
        render(tmp_path, records, ("pdf",))


def test_interrupted_before_anything_was_measured(summary: dict[str, Any], tmp_path: Path) -> None:
    summary |= {"kernels": [], "end_to_end": None, "export": None, "environment": None, "ceilings": None, "notes": []}
    summary["search"] |= {"trials": None, "measured": None, "reused": None, "wall_s": None, "failed": {}}
    summary["search"]["stopped_by"] = "interrupted"
    page, _, rows = rendered(tmp_path, summary, [])
    check_self_contained(page)
    for words in ("was not timed end to end", "stopped by interrupted", "No kernel reached the report",
                  "ceilings were not measured", "No trial failed", "Nothing was exported", "config.yaml is missing",
                  "The environment was not recorded"):  # fmt: skip
        assert words in page.text
    assert len(rows) == 1


def test_every_number_may_be_null(summary: dict[str, Any], records: list[Record], tmp_path: Path) -> None:
    def blank(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: blank(item) for key, item in value.items()}
        return None if isinstance(value, (int, float)) else value

    for kernel in summary["kernels"]:
        kernel |= blank(kernel) | {"interval_s": None, "verdict": "NOT TUNED"}
    summary["end_to_end"] = blank(summary["end_to_end"]) | {"interval_s": None, "baselines": {"torch": None}}
    page, _, _ = rendered(tmp_path, summary, records)
    check_self_contained(page)
    assert "11 of 11 kernels have no tuned time" in page.text
    assert "nan" not in page.text.lower()


def test_no_baselines(summary: dict[str, Any], records: list[Record], tmp_path: Path) -> None:
    summary["end_to_end"]["baselines"] = {}
    page, _, _ = rendered(tmp_path, summary, records)
    assert "×120 faster than untuned TVM; all outputs verified" in page.text
    assert "No baseline was measured." in page.text


def test_hostile_names(summary: dict[str, Any], records: list[Record], tmp_path: Path) -> None:
    summary["model"]["name"] = SCRIPT
    summary["command"] = f"run {SCRIPT} ```\n# heading"
    summary["target"]["device"] = SCRIPT
    summary["notes"] = list(HOSTILE)
    summary["search"]["failed"] = dict.fromkeys(HOSTILE, 3)
    for kernel, name in zip(summary["kernels"], HOSTILE, strict=False):
        kernel |= {"name": name, "shape": name, "candidate": name}
        kernel["baselines"][name] = 1e-3
    for name in HOSTILE:
        summary["end_to_end"]["baselines"][name] = {"median_s": 0.1, "interval_s": None}
    records = [dataclasses.replace(record, proposer=HOSTILE[i % len(HOSTILE)]) for i, record in enumerate(records)]
    (tmp_path / "config.yaml").write_text(f"a: {SCRIPT}")
    (tmp_path / "environment.json").write_text(json.dumps({SCRIPT: {FORMULA: [SCRIPT]}}))
    page, markdown, rows = rendered(tmp_path, summary, records)
    check_self_contained(page)
    assert SCRIPT in page.text
    outside_code = markdown[: markdown.index("\n````")]
    assert "<script" not in outside_code
    assert "http://" not in outside_code
    assert "\n# x" not in outside_code
    table = [
        line for line in outside_code.split("## Kernels")[1].split("\n## ")[0].splitlines() if line.startswith("|")
    ]
    assert len(table) == 2 + len(summary["kernels"])
    assert len({line.count("|") - line.count("\\|") for line in table}) == 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "'" + FORMULA in {cell for row in rows for cell in row}


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", " =1", "\n=1", "＝1", "＠x"])
def test_formulas_are_text_in_a_spreadsheet(text: str) -> None:
    assert tables.spreadsheet_safe(text) == f"'{text}"


@pytest.mark.parametrize("value", ["conv2d", "", "a=b", -1.5, None, True])
def test_other_cells_are_unchanged(value: Any) -> None:
    assert tables.spreadsheet_safe(value) is value


@pytest.mark.parametrize(
    ("ours", "other", "verdict"),
    [
        ((1.0, [0.99, 1.01]), (1.2, [1.19, 1.21]), "FASTER"),
        ((1.2, [1.19, 1.21]), (1.0, [0.99, 1.01]), "SLOWER"),
        ((1.0, [0.99, 1.03]), (1.02, [1.01, 1.05]), "UNDECIDED"),
        ((1.0, [0.9999, 1.0001]), (1.001, [1.0, 1.002]), "SAME"),
        ((1.0, [0.999, 1.001]), (1.003, [1.002, 1.004]), "SAME"),
        ((1.0, None), (1.1, None), "UNDECIDED"),
        ((1.0, None), (50.0, None), "FASTER"),
    ],
)
def test_comparing_two_times(ours: tuple[float, Any], other: tuple[float, Any], verdict: str) -> None:
    assert document.compare(*ours, *other) == verdict


@pytest.mark.parametrize(
    ("change", "mood", "words"),
    [
        ({}, "good", "×1.05 faster than the best baseline"),
        ({"tuned_s": 0.09, "interval_s": [0.089, 0.091]}, "bad", "×1.99 slower than the best baseline (ONNX Runtime"),
        (
            {"tuned_s": 0.045, "interval_s": [0.044, 0.046]},
            "open",
            "not clearly faster or slower than the best baseline",
        ),
        ({"verified": False}, "bad", "WRONG RESULTS"),
        ({"verified": None}, "open", "NOT verified"),
        ({"tuned_s": 6.0, "interval_s": [5.9, 6.1]}, "bad", "×1.16 slower than untuned TVM"),
    ],
)
def test_verdict_is_honest(
    summary: dict[str, Any], records: list[Record], change: dict[str, Any], mood: str, words: str
) -> None:
    summary["end_to_end"] |= change
    report = document.build(summary, records, None, None)
    assert report.mood == mood
    assert words in report.verdict[0]


def test_a_paired_verdict_beats_the_intervals(summary: dict[str, Any], records: list[Record]) -> None:
    summary["end_to_end"]["baselines"]["onnxruntime"]["verdict"] = "UNDECIDED"
    assert "not clearly faster" in document.build(summary, records, None, None).verdict[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (43.1e-3, "43.1 ms"),
        (1.0, "1.00 s"),
        (999.9e-6, "1.00 ms"),
        (812e-9, "812 ns"),
        (12.3e-6, "12.3 µs"),
        (1234.0, "1,230 s"),
        (None, "–"),
    ],
)
def test_times_are_readable(value: float | None, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2e-6, "2e-6"), (0.0123, "0.0123"), (120.0, "120"), (999.7, "1,000"), (1.5e9, "1.5e9")],
)
def test_three_digits(value: float, text: str) -> None:
    assert units.digits(value) == text


def test_importing_the_package_is_light() -> None:
    heavy = ("matplotlib", "pandas", "jinja2", "numpy")
    code = f"import sys, tuner.report.summary; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
