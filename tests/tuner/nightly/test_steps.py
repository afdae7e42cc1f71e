"""A step ends by itself or is ended, with all that it started; its reason is what it said last."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tuner.errors import InfrastructureError
from tuner.nightly import steps
from tuner.nightly.steps import Tree


def tree(folder: Path, source: str) -> Tree:
    (folder / "one.py").write_text(source)
    return Tree(folder, sys.executable)


def test_a_step_that_works(tmp_path: Path) -> None:
    step = steps.run(tree(tmp_path, "print('done')"), ["one"], tmp_path / "log", 60)
    assert (step.failed, step.code) == ("", 0) and step.seconds < 60
    assert (tmp_path / "log").read_text() == "done\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit('error: the disk is full')", "exit code 1: error: the disk is full"),
        ("raise ValueError('a\\nb')", "ValueError: a"),
        ("import os; raise ValueError(os.getcwd() + '/kernels/x.py')", "ValueError: kernels/x.py"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11: it said nothing"),
    ],
)
def test_a_step_that_fails_says_why(tmp_path: Path, source: str, words: str) -> None:
    assert words in steps.run(tree(tmp_path, source), ["one"], tmp_path / "log", 60).failed


def test_a_step_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    source = "import subprocess, time; subprocess.Popen(['sleep', '321']); time.sleep(321)"
    began = time.monotonic()
    step = steps.run(tree(tmp_path, source), ["one"], tmp_path / "log", 1.5)
    assert step.failed == "no end within 2 s: killed" and time.monotonic() - began < 30
    assert b"sleep 321" not in subprocess.run(["ps", "-wweo", "args"], capture_output=True).stdout


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="no step can be started"):
        steps.run(Tree(tmp_path, str(tmp_path / "python")), ["one"], tmp_path / "log", 1)


def test_another_tree_runs_its_own_copy(tmp_path: Path) -> None:
    (tmp_path / "tuner").mkdir()
    (tmp_path / "tuner" / "__init__.py").write_text("")
    (tmp_path / "tuner" / "__main__.py").write_text("print('the other one')")
    steps.run(Tree(tmp_path, sys.executable), ["tuner"], tmp_path / "log", 60)
    assert (tmp_path / "log").read_text() == "the other one\n"


def test_a_step_dies_with_the_night(tmp_path: Path) -> None:
    tree(tmp_path, "import time; time.sleep(120)")
    script = (
        "import sys; from pathlib import Path; from tuner.nightly import steps\n"
        "steps.run(steps.Tree(Path(sys.argv[1]), sys.executable), ['one', sys.argv[2]], Path(sys.argv[1]) / 'log', 600)"
    )
    root, mark = Path(__file__).resolve().parents[3], f"one-{uuid.uuid4()}"
    night = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), mark], cwd=root)
    try:
        assert _appears(f"-m one {mark}")
    finally:
        night.kill()
        night.wait()
    deadline = time.monotonic() + 20
    while _running(f"-m one {mark}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _running(f"-m one {mark}")


def test_a_step_whose_night_died_before_it_began_does_nothing(tmp_path: Path) -> None:
    tree(tmp_path, "print('done')")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    step = subprocess.run(
        [sys.executable, "-c", steps._BEGIN, str(ended.pid), "one"],  # noqa: SLF001 - that moment is short
        cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    assert (step.returncode, step.stdout) == (9, b"")


def _running(words: str) -> bool:
    return words.encode() in subprocess.run(["ps", "-wweo", "args"], capture_output=True).stdout


def _appears(words: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if _running(words):
            return True
        time.sleep(0.1)
    return False
