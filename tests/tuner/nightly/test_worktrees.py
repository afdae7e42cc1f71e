"""Other commits in worktrees, of a small repository that stands for this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tuner.errors import InfrastructureError, UserError
from tuner.nightly import commits, steps, worktrees


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commits on `main`, and one beside them; the program that `tuner` is in each prints its number."""
    root = tmp_path / "root"
    (root / "tuner").mkdir(parents=True)
    (root / "kernels").mkdir()
    (root / "tuner" / "__init__.py").write_text("")
    (root / "constraints.txt").write_text("numpy==1\nruff==1\n")

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", root, *identity, *arguments], check=True, capture_output=True)

    git("init", "-b", "main")
    for number in range(3):
        (root / "tuner" / "__main__.py").write_text(f"print('commit {number}')\n")
        if number == 2:
            (root / "kernels" / "x.py").write_text("x = 2\n")
        git("add", ".")
        git("commit", "-m", f"number {number}")
    git("checkout", "-b", "side", "HEAD~1")
    git("commit", "--allow-empty", "-m", "beside")
    git("checkout", "main")
    monkeypatch.setattr(commits, "ROOT", root)
    monkeypatch.setattr(worktrees, "ROOT", root)
    monkeypatch.setattr(commits.git, "__kwdefaults__", {"root": root})
    return root


def test_what_git_says(repository: Path) -> None:
    first, last = commits.resolve("HEAD~2"), commits.resolve("main")
    assert commits.branch() == "main"
    assert commits.between(first, last) == [commits.resolve("HEAD~1"), last]
    assert list(commits.ancestors(last) or ()) == [first, commits.resolve("HEAD~1"), last]
    assert commits.ancestors(f"{first}+changes") == {first: 0}
    assert commits.ancestors("f" * 40) is None and commits.ancestors("") is None
    assert commits.touched(first, last) == ["kernels/x.py"]
    assert commits.touched(first, commits.resolve("HEAD~1")) == []
    assert commits.touched(first, "f" * 40) is None
    with pytest.raises(UserError, match="not an ancestor"):
        commits.between(commits.resolve("side"), last)
    for wrong in ("nothing", "--all", "HEAD; rm"):
        with pytest.raises(UserError, match="no commit"):
            commits.resolve(wrong)


def test_each_commit_runs_its_own_program(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, number in (("HEAD~2", 0), ("HEAD~1", 1)):
        with worktrees.worktree(commits.resolve(name), Path("trees"), print) as tree:
            assert steps.run(tree, ["tuner"], tmp_path / "log", 60).failed == ""
            assert (tmp_path / "log").read_text() == f"commit {number}\n"
            folder = tree.folder
        assert not folder.exists()
    assert commits.git("worktree", "list") is not None
    assert len((commits.git("worktree", "list") or "").splitlines()) == 1


def test_a_worktree_that_a_killed_process_left_is_made_anew(repository: Path, tmp_path: Path) -> None:
    commit = commits.resolve("HEAD")
    made = worktrees.worktree(commit, tmp_path, print, sys.executable)
    made.__enter__()  # and never left
    with worktrees.worktree(commit, tmp_path, print, sys.executable) as tree:
        assert (tree.folder / "tuner" / "__main__.py").exists()


def test_a_commit_with_other_packages_gets_its_own(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "constraints.txt").write_text("# the same\nnumpy==1\nruff==2\n")
    assert worktrees.same_packages(other)
    (other / "constraints.txt").write_text("numpy==2\n")
    assert not worktrees.same_packages(other)


def test_a_commit_that_is_not_there(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="no worktree"), worktrees.worktree("f" * 40, tmp_path, print):
        pass
