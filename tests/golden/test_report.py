"""The summary, the report and the headline of one fixed run, made by the code that makes those of every run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.golden import synthetic_run
from tuner import report
from tuner.commands.summarize import headline, summarize
from tuner.report import summary as summary_file

Golden = Callable[[str, str], None]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = synthetic_run.folder(tmp_path / "run")
    summary_file.save(folder, summarize(synthetic_run.facts()))
    report.render(folder, synthetic_run.records(), ("md",))
    return folder


def rounded(value: Any) -> Any:
    """Numbers to nine digits: the last ones depend on the processor's logarithm."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_the_summary(run: Path, golden: Golden) -> None:
    written = json.loads((run / "summary.json").read_text())
    golden("summary.json", json.dumps(rounded(written), indent=1) + "\n")


def test_the_report(run: Path, golden: Golden) -> None:
    golden("report.md", (run / "report.md").read_text())


def test_the_headline(run: Path, golden: Golden) -> None:
    golden("headline.txt", "\n".join(headline(summary_file.load(run))) + "\n")
