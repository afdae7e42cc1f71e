"""Documents state what the files under results/ say, and use the terms of docs/glossary.md."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.figures import read_all, reader_of
from experiments.papers import documents, problems, restated, write

ROOT = Path(__file__).parent.parent


# --- figures ----------------------------------------------------------------------------------------


def test_documents_state_what_the_files_say() -> None:
    done = subprocess.run(
        [sys.executable, "experiments/papers.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_enough_is_stated() -> None:
    stated = sum(path.read_text("utf-8").count("<!-- figure:") for path in documents())
    assert stated > 30, "hardly a figure was seen: are the documents read?"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documents and results, in a folder that may be tampered with."""
    for folder in ("docs", "experiments", "results"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.py", "*.png", "runs"))
    shutil.copy(ROOT / "README.md", tmp_path)
    assert problems(tmp_path) == []
    return tmp_path


def test_a_document_that_is_changed_is_noticed_and_mended(copy: Path) -> None:
    page = copy / "docs" / "measuring.md"
    right = page.read_text("utf-8")
    page.write_text(right.replace("comparisons: 0 FASTER", "comparisons: 7 FASTER", 1), "utf-8")
    [wrong] = problems(copy)
    assert wrong.startswith("docs/measuring.md:")
    assert "7 FASTER" in wrong
    assert write(copy) == [page]
    assert page.read_text("utf-8") == right


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("verdicts-aa.jsonl", '"label": "SAME"', '"label": "SLOWER"'),
        ("throughput.json", '"trials_per_s": 5.', '"trials_per_s": 9.'),
        ("search.json", '"guided @ 64 trials": 0.', '"guided @ 64 trials": 1.'),
        ("resnet50/summary.json", '"tuned_s": 0.03', '"tuned_s": 0.09'),
    ],
)
def test_a_result_that_is_changed_is_noticed(copy: Path, name: str, before: str, after: str) -> None:
    path = copy / "results" / "amd-epyc" / name
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")
    assert any(line.startswith("results/README.md:") for line in problems(copy))


def test_a_result_that_is_gone_is_noticed(copy: Path) -> None:
    (copy / "results" / "amd-epyc" / "throughput.json").unlink()
    assert any("no figure 'amd-epyc/throughput.json" in line for line in problems(copy))


def test_a_new_result_of_a_known_kind_needs_no_code(copy: Path) -> None:
    (copy / "results" / "h200" / "monday").mkdir(parents=True)
    shutil.copy(copy / "results/amd-epyc/verdicts-aa.jsonl", copy / "results/h200/monday/verdicts-aa.jsonl")
    page = copy / "docs" / "new.md"
    page.write_text("Of <!-- figure: h200/monday/verdicts-aa.jsonl comparisons -->?<!-- end -->.", "utf-8")
    assert write(copy) == [page]
    assert "-->200<!-- end -->" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("of <!-- figure: a.json count -->2<!-- end --> ones", "is '3', the document says '2'"),
        ("of <!-- figure: a.json counts -->3<!-- end --> ones", "did you mean 'a.json count'?"),
        ("of <!-- figure: a.json count -->3 ones", "is not written"),
        ("of <!-- figure: a.json --> 3<!-- end --> ones", "is not written"),
        ("<!-- figure: a.json count -->3<!-- end --> ones", "begins a line"),
        ("text\n  - <!-- figure: a.json count -->3<!-- end --> ones", "begins a line"),
        ("of `<!-- figure: a.json count -->3<!-- end -->` ones", "code span"),
    ],
)
def test_a_figure_that_is_stated_badly_is_named(text: str, words: str) -> None:
    [(_, said)] = restated(text, {"a.json": {"count": "3"}})[1]
    assert words in said


def test_a_figure_that_is_right_is_left_alone() -> None:
    text = "of <!-- figure: a.json count -->3<!-- end --> ones\n\n<!-- figure: a.json table -->\n| x |\n<!-- end -->\n"
    assert restated(text, {"a.json": {"count": "3", "table": "\n| x |\n"}}) == (text, [])


def test_every_result_is_read_and_linked() -> None:
    page = (ROOT / "results" / "README.md").read_text("utf-8")
    known = read_all()
    assert [name for name in known if f"({name})" not in page] == []
    links = re.findall(r"\]\(([^)]+\.jsonl?)\)", page)
    assert [link for link in links if reader_of(link) is None] == []
    assert sorted(links) == sorted(known)


def test_a_report_and_its_summary_are_of_one_run() -> None:
    summaries = {name: figures for name, figures in read_all().items() if name.endswith("/summary.json")}
    assert summaries
    for name, figures in summaries.items():
        folder = (ROOT / "results" / name).parent
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        assert json.loads((folder / "environment.json").read_text("utf-8")) == summary["environment"]
        report = (folder / "report.md").read_text("utf-8")
        assert figures["run"] in report
        assert f"runs in {figures['tuned']} " in report


def test_every_experiment_says_where_its_finding_comes_from() -> None:
    """A finding is written from a file, or it says that no file was kept."""
    sources = ("<!-- figure:", "measured once, no file kept", "none yet", "none kept")
    without = []
    for path in sorted((ROOT / "experiments").glob("*/README.md")):
        finding = path.read_text("utf-8").partition("\n## Finding\n")[2].lower()
        if not any(source in finding for source in sources):
            without.append(path.parent.name)
    assert without == []


# --- words ------------------------------------------------------------------------------------------

RETIRED = re.compile(
    r"\b(absorb\w*|barred|beliefs?|canar(?:y|ies)|certificates?|contenders?|contests?|convictions?|disturbed|entrants?|"
    r"first guess(?:es)?|fleets?|foret(?:ell|old)\w*|gone over|guardians?|hosting|judge(?:s|d|ments?)?|keepers?|"
    r"physical floors?|recipes?|replayers?|rivals?|shrank|side by side|specimens?|strangers?|tak(?:es?|ing) turns|"
    r"tiers?|twins?)\b",
    re.IGNORECASE,
)
"""Words that docs/glossary.md replaces, where they have no other meaning in these documents."""

OF_THEIR_TIME = {"docs/glossary.md"}
"""The glossary names the retired words."""


def prose(text: str) -> str:
    """A document without what is typed: code, comments, and the targets of links."""
    for pattern in (r"```.*?```", r"^    [^\n]*$", r"`[^`\n]*`", r"<!--.*?-->", r"\]\([^)]*\)"):
        text = re.sub(pattern, lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    return text


def retired_words(path: Path) -> list[str]:
    lines = prose(path.read_text("utf-8")).splitlines()
    name = path.relative_to(ROOT).as_posix()
    return [f"{name}:{n}: {m[0]}" for n, line in enumerate(lines, 1) for m in RETIRED.finditer(line)]


def test_retired_words_are_gone() -> None:
    pages = [path for path in documents() if path.relative_to(ROOT).as_posix() not in OF_THEIR_TIME]
    assert len(pages) > 20
    assert [text for path in pages for text in retired_words(path)] == []


def test_a_retired_word_is_found_in_prose_alone() -> None:
    text = "see `--rival-seconds`\n\n    tuner absorb FILE\n\nthe [rival](a/rivals.md)"
    assert RETIRED.findall(prose(text)) == ["rival"]
    assert prose(text).count("\n") == text.count("\n")


def test_the_glossary_is_in_order_and_names_its_sources() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    heads, *terms = rows
    assert heads == ["term", "means", "source", "not"]
    assert len(terms) > 100
    assert [row for row in terms if len(row) != 4 or not all(row[:3])] == []
    names = [row[0] for row in terms]
    assert names == sorted(set(names), key=str.lower)
