"""A recorded space as a cell, played for real."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tuner.nightly.config import NightConfig, parse
from tuner.nightly.measuring import Job
from tuner.nightly.spaces import SERIES, SpaceMeasurer
from tuner.nightly.steps import Tree
from tuner.nights import Outcome

ROOT = Path(__file__).resolve().parents[3]
SPACE = "tests/tuner/simulate/recorded/pnpoly-RTX_3090.json.gz"


def night(strategy: str = "random", space: str = SPACE) -> NightConfig:
    cell = f"{{name: a, kind: space, space: {space}, strategy: {strategy}, evaluations: 30, seeds: 2}}"
    return parse(f"cells: [{cell}]", "night")


def job(work: Path, config: NightConfig, tree: Tree) -> Job:
    return Job(config.cells[0], config, None, work, lambda: 300.0, tree)


def test_the_same_is_found_every_night_and_by_a_copy_of_this_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    first = SpaceMeasurer().measure(job(tmp_path, night(), Tree.here()))
    assert (first.outcome, first.reason) == (Outcome.SAME, "")
    assert first.ratios[SERIES] >= 0 and len(first.facts["by_seed"]) == 2
    monkeypatch.chdir(tmp_path)  # this program's folder is another tree now
    space = str(ROOT / SPACE)
    again = SpaceMeasurer().measure(job(tmp_path, night(space=space), Tree(ROOT, sys.executable)))
    assert again.facts["by_seed"] == first.facts["by_seed"]
    assert (tmp_path / "played.py").is_file()


def test_what_cannot_be_played_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    measured = SpaceMeasurer().measure(job(tmp_path, night("clever"), Tree.here()))
    assert measured.outcome is Outcome.BROKEN and "no strategy" in measured.reason
