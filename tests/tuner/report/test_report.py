"""The rendered report: full, partial and hostile runs."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import UserError
from tuner.nights import Since
from tuner.records import Label, Record
from tuner.report import document, end_to_end, kernels_csv, render, tables, units
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
               "figure", "img", "table", "thead", "tbody", "tr", "th", "td", "pre", "wbr"}  # fmt: skip
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
        "ResNet-50 runs in 43.1 ms [42.8, 43.5]: faster than untuned TVM (speedup ×120), and faster than the best"
        " baseline, ONNX Runtime at 45.2 ms (speedup ×1.05); all outputs verified (max relative error 2e-6)."
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


def test_a_kernel_is_held_against_the_peak_of_what_it_computes_in(summary: dict[str, Any]) -> None:
    peaks = {"float32": 105e9, "float16": 210e9, "float16 on tensor cores": 840e9}
    ceilings = {**summary["ceilings"], "peaks": peaks}
    told = {"float16 on tensor cores": 840e9, "float16": 210e9, "bfloat16 on tensor cores": 105e9, "int64": 105e9}
    for arithmetic, flops_per_s in told.items():
        peak = tables.peak_of({"arithmetic": arithmetic}, ceilings)
        assert peak is not None
        assert peak.flops_per_s == flops_per_s
    del peaks["float16 on tensor cores"]
    assert tables.peak_of({"arithmetic": "float16 on tensor cores"}, ceilings) == tables.Peak("float16", 210e9)
    assert tables.peak_of({}, {"peak_flops_per_s": 1e9}) == tables.Peak("float32", 1e9), "of an earlier version"
    assert tables.peak_of({"arithmetic": "float32"}, {}) is None
    summary["kernels"][0]["arithmetic"], summary["ceilings"] = "float16", ceilings
    [half] = [row for row in tables.kernels(summary) if row.name == summary["kernels"][0]["name"]]
    assert half.share_of_peak == pytest.approx((half.flops_per_s or 0.0) / 210e9)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "62 measurements"),
        ({"candidates": 40, "untuned": 2, "rank": 11, "certify": 9},
         "62 measurements (42 trials: 40 candidates, 2 untuned programs; 11 to rank finalists; 9 to certify)"),
        ({"candidates": 60, "beginnings": 2},
         "62 measurements (62 trials: 60 candidates, 2 candidates of kernels that the search did not reach)"),
        ({"certify": 62}, "62 measurements (62 to certify)"),
    ],
)  # fmt: skip
def test_what_was_measured_is_said(counts: dict[str, int], said: str) -> None:
    assert end_to_end.measurements({"measured": 62, "counts": counts}) == said


def test_formats_are_those_asked_for(summary: dict[str, Any], records: list[Record], tmp_path: Path) -> None:
    summary_file.save(tmp_path, summary)
    assert render(tmp_path, records, ("csv",)) == [tmp_path / "kernels.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels.csv", "summary.json"]
    with pytest.raises(UserError, match="pdf"):
        render(tmp_path, records, ("pdf",))


def test_the_history_of_its_cell_is_a_link(summary: dict[str, Any], records: list[Record], tmp_path: Path) -> None:
    summary_file.save(tmp_path, summary)
    since = [Since("a <b>", "Since last night", "../nightly/site/cells/a b.html"), Since("c", "No page was written")]
    render(tmp_path, records, since=since)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.count("<a ") == 1
    assert '<a href="../nightly/site/cells/a%20b.html">a &lt;b&gt;, night by night</a>' in html
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "[a &lt;b&gt;, night by night](<../nightly/site/cells/a b.html>)" in markdown


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
    assert "faster than untuned TVM (speedup ×120); all outputs verified" in page.text
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
    assert kernels_csv.spreadsheet_safe(text) == f"'{text}"


@pytest.mark.parametrize("value", ["conv2d", "", "a=b", -1.5, None, True])
def test_other_cells_are_unchanged(value: Any) -> None:
    assert kernels_csv.spreadsheet_safe(value) is value


@pytest.mark.parametrize(
    ("tuned", "other", "verdict"),
    [
        ((1.0, [0.99, 1.01]), (1.2, [1.19, 1.21]), Label.FASTER),
        ((1.2, [1.19, 1.21]), (1.0, [0.99, 1.01]), Label.SLOWER),
        ((1.0, [0.99, 1.03]), (1.02, [1.01, 1.05]), Label.UNDECIDED),
        ((1.0, [0.9999, 1.0001]), (1.001, [1.0, 1.002]), Label.SAME),
        ((1.0, [0.999, 1.001]), (1.003, [1.002, 1.004]), Label.SAME),
        ((1.0, None), (1.1, None), Label.UNDECIDED),
        ((1.0, None), (50.0, None), Label.FASTER),
    ],
)
def test_comparing_two_times_by_their_intervals(
    tuned: tuple[float, Any], other: tuple[float, Any], verdict: Label
) -> None:
    assert end_to_end.compare_intervals(*tuned, *other) is verdict


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({}, "good", "faster than the best baseline, ONNX Runtime at 45.2 ms (speedup ×1.05)"),
        (
            {"tuned_s": 0.09, "interval_s": [0.089, 0.091]},
            "bad",
            "slower than the best baseline, ONNX Runtime at 45.2 ms (speedup ×0.502)",
        ),
        (
            {"tuned_s": 0.045, "interval_s": [0.044, 0.046]},
            "open",
            "not clearly faster or slower than the best baseline",
        ),
        ({"verified": False}, "bad", "WRONG RESULTS"),
        ({"verified": None}, "open", "NOT verified"),
        ({"tuned_s": 6.0, "interval_s": [5.9, 6.1]}, "bad", "slower than untuned TVM (speedup ×0.862)"),
    ],
)
def test_verdict_is_honest(
    summary: dict[str, Any], records: list[Record], change: dict[str, Any], outcome: str, words: str
) -> None:
    summary["end_to_end"] |= change
    report = document.build(summary, records, None, None)
    assert report.headline.outcome == outcome
    assert words in report.headline.sentences[0]


def test_a_verdict_and_the_speedup_beside_it_are_of_one_statistic(
    summary: dict[str, Any], records: list[Record], tmp_path: Path
) -> None:
    """The medians say that the tuned model is 4.9 % faster; the pairs, which see through drift, say 1.5 % slower."""
    summary["end_to_end"]["verdicts"] = {"onnxruntime": "SLOWER", "untuned": "FASTER"}
    summary["end_to_end"]["ratios"] = {"onnxruntime": 1.015, "untuned": 0.008}
    page, _, _ = rendered(tmp_path, summary, records)
    assert "slower than the best baseline, ONNX Runtime at 45.2 ms (speedup ×0.985)" in page.text
    assert "faster than untuned TVM (speedup ×125)" in page.text
    [section] = [s for s in document.build(summary, records, None, None).sections if s.title == "End to end"]
    assert section.table is not None
    assert ("ONNX Runtime", "45.2 ms [44.9, 45.6]", "×0.985", "SLOWER") in section.table.rows
    assert ("untuned TVM", "5,170 ms [5,150, 5,200]", "×125", "FASTER") in section.table.rows


def test_a_paired_verdict_without_its_ratio_is_shown_without_a_speedup(
    summary: dict[str, Any], records: list[Record], tmp_path: Path
) -> None:
    """As earlier versions stored it; the verdict itself is still sharper than two intervals."""
    summary["end_to_end"]["baselines"]["onnxruntime"]["verdict"] = "UNDECIDED"
    summary["end_to_end"]["verdicts"] = {"untuned": "FASTER", "torch": "FASTER", "torch_channels_last": "FASTER"}
    page, markdown, _ = rendered(tmp_path, summary, records)
    assert (
        "not clearly faster or slower than the best baseline, ONNX Runtime at 45.2 ms (within the noise)" in page.text
    )
    assert "faster than untuned TVM, and" in page.text
    assert "45.2 ms \\[44.9, 45.6\\] | – | UNDECIDED" in markdown


def in_state(tuned_s: float, other_s: float, verdict: str, ratio: float) -> dict[str, Any]:
    return {
        "tuned": {"median_s": tuned_s, "interval_s": None, "verdict": None, "ratio": None},
        "onnxruntime": {"median_s": other_s, "interval_s": None, "verdict": verdict, "ratio": ratio},
    }


def test_each_state_of_the_machine_has_its_own_verdict(
    summary: dict[str, Any], records: list[Record], tmp_path: Path
) -> None:
    together, apart = in_state(43.1e-3, 45.2e-3, "FASTER", 0.95), in_state(50.1e-3, 47.2e-3, "SLOWER", 1.06)
    summary["end_to_end"] |= {
        "verdicts": {"onnxruntime": "FASTER"},
        "ratios": {"onnxruntime": 0.95},
        "state": "together",
        "mixed": ["torch"],
        "states": {
            "together": {"round_trip_s": 54e-9, "noise_floor": 0.001, "entries": together},
            "apart": {"round_trip_s": 340e-9, "noise_floor": 0.01, "entries": apart},
        },
        "first_calls": in_state(61e-3, 58e-3, "UNDECIDED", 1.05),
        "load_s": {"tuned": 0.25, "onnxruntime": 1.5},
        "peak_bytes": {"tuned": 300 << 20},
    }
    page, markdown, _ = rendered(tmp_path, summary, records)
    assert "runs in 43.1 ms [42.8, 43.5] with the CPUs together" in page.text
    assert "It runs in 50.1 ms with the CPUs apart: slower than the best baseline, ONNX Runtime at 47.2 ms" in page.text
    assert "at 47.2 ms (speedup ×0.943)" in page.text
    assert "took 54.0 ns" in page.text and "a round trip of 340 ns" in page.text
    assert "| 45.2 ms \\[44.9, 45.6\\] | ×1.05 | FASTER | 58.0 ms | ×0.952 | UNDECIDED | 1.50 s | – |" in markdown
    assert "## End to end with the CPUs apart" in markdown
    assert "| 47.2 ms | ×0.943 | SLOWER |" in markdown
    assert "71.0 ms \\[70.0, 73.0\\], all states" in markdown
    assert "300 MiB" in markdown
    assert document.build(summary, records, None, None).headline.outcome == "open", "a gain here, a loss there"
    summary["end_to_end"] |= {"states": {"apart": {**summary["end_to_end"]["states"]["apart"], "entries": {}}}}
    _, markdown, _ = rendered(tmp_path, summary, records)
    assert "with the CPUs together" in markdown and "CPUs apart" not in markdown


def test_a_kernel_s_speedup_is_that_of_its_verdict(summary: dict[str, Any]) -> None:
    kernel = summary["kernels"][0]
    kernel |= {"tuned_s": 1.0, "untuned_s": 1.1, "verdict": "SLOWER", "ratio": 1.25}
    [row] = [row for row in tables.kernels(summary) if row.name == kernel["name"]]
    assert row.speedup == 0.8
    assert "×0.800 SLOWER" in tables.kernel_table([row]).rows[0]
    del kernel["ratio"]  # as earlier versions stored it
    [row] = [row for row in tables.kernels(summary) if row.name == kernel["name"]]
    assert row.speedup is None, "the medians may say the contrary of the verdict"


def test_a_renamed_column_stands_under_both_names(summary: dict[str, Any]) -> None:
    summary["kernels"] = [summary["kernels"][0] | {"remeasurement_shift": 0.0125}]
    [row] = csv.DictReader(io.StringIO(kernels_csv.render(tables.kernels(summary)).decode()))
    assert row["remeasurement_shift"] == row["shrank"] == "0.0125"


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
