"""A run that is killed again and again comes to the result of one that is not: the short form of experiments/kill9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_nothing_is_lost_when_a_run_is_killed(tmp_path: Path) -> None:
    """Every check stands in the script; it ends with 0 only if all held. With so many trials the models have a say."""
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "experiments/kill9/run.py", "--short", "--kills", "1", "--trials", "20"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path / "work")], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-4].startswith("1 kills in ")
    runs = lines[-4].partition("attempts at ")[2].partition(" ")[0]
    assert lines[-1] == f"the same final result: {runs} of {runs}"
