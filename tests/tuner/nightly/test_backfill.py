"""Nights of other commits: several cells at several commits, broken ones, and what was interrupted."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.nightly import synthetic
from tests.tuner.nightly.synthetic import Synthetic
from tuner.errors import InfrastructureError
from tuner.nightly import backfill, commits
from tuner.nightly.config import load
from tuner.nightly.measuring import Job
from tuner.nightly.steps import Tree
from tuner.nightly.worktrees import Unbuildable
from tuner.nights import Outcome
from tuner.progress import Progress
from tuner.store.history import History

COMMITS = {letter: letter * 40 for letter in "abc"}


@pytest.fixture
def measurer(monkeypatch: pytest.MonkeyPatch) -> Synthetic:
    """Three commits, of which the second cannot be set up."""

    @contextlib.contextmanager
    def worktree(commit: str, folder: Path, say: object) -> Iterator[Tree]:
        if commit == COMMITS["b"]:
            raise Unbuildable("its packages cannot be set up: no such version")
        yield Tree.here()

    measurer = Synthetic()
    monkeypatch.setattr(backfill, "worktree", worktree)
    monkeypatch.setattr(backfill, "default_measurers", lambda: {"model": measurer})
    monkeypatch.setattr(commits, "resolve", lambda name: COMMITS[name])
    monkeypatch.setattr(commits, "between", lambda good, bad: [COMMITS["b"], COMMITS["c"]])
    return measurer


def filled(folder: Path, path: str, cell: str, *names: str) -> list[str]:
    with History(f"sqlite:///{folder / 'h.db'}") as history:
        return backfill.backfill(history, load(path), cell, names, Progress(io.StringIO()))


def test_all_cells_at_several_commits_are_a_night_each(tmp_path: Path, measurer: Synthetic) -> None:
    path = synthetic.config(tmp_path, "conv gemm")
    filled(tmp_path, path, backfill.ALL, "a", "a..c")
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        nights, results = history.nights(), history.results()
    assert [night.commit for night in nights] == list(COMMITS.values())
    assert all(night.ended_at and night.origin == "backfill" for night in nights)
    assert len(results) == 6
    assert {r.reference for r in results if r.outcome is not Outcome.BROKEN} == {nights[0].id}
    broken = [r for r in results if r.outcome is Outcome.BROKEN]
    assert {r.night for r in broken} == {nights[1].id}
    assert all("no such version" in r.reason for r in broken)


def test_what_was_interrupted_goes_on(tmp_path: Path, measurer: Synthetic) -> None:
    path = synthetic.config(tmp_path, "conv")

    def interrupted(job: Job) -> None:
        if len(measurer.asked) == 2:
            raise KeyboardInterrupt

    measurer.before = interrupted
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, path, "conv", "a", "c")
    measurer.before = lambda job: None
    filled(tmp_path, path, "conv", "a", "c")
    assert measurer.asked == ["conv"] * 3
    assert filled(tmp_path, path, "conv", "a", "c") == ["every commit has a night of the cell already"]
    filled(tmp_path, path, "conv", "a")
    assert len(measurer.asked) == 4, "one commit alone is measured again"


def test_a_machine_that_fails_tells_nothing_of_the_commit(tmp_path: Path, measurer: Synthetic) -> None:
    path = synthetic.config(tmp_path, "conv")

    def fails(job: Job) -> None:
        raise InfrastructureError("no step can be started: its folder is gone")

    measurer.before = fails
    with pytest.raises(InfrastructureError, match="its folder is gone"):
        filled(tmp_path, path, "conv", "a", "c")
    measurer.before = lambda job: None
    filled(tmp_path, path, "conv", "a", "c")
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        assert [result.outcome for result in history.results()] == [Outcome.UNDECIDED, Outcome.SAME]
