"""The golden files are compared, a difference is shown with the command that accepts it, and one flag updates them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST = "def test_it(golden):\n    golden('greeting.txt', 'hello\\nworld\\n')\n"


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder of its own, with the fixture of this project."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder), *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_one_flag_updates_and_without_it_a_difference_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text("utf-8"))
    (tmp_path / "test_it.py").write_text(TEST)
    missing = run(tmp_path)
    assert missing.returncode == 1
    assert "no such golden file" in missing.stdout
    assert run(tmp_path, "--update-golden").returncode == 0
    assert (tmp_path / "golden" / "greeting.txt").read_text() == "hello\nworld\n"
    assert run(tmp_path).returncode == 0
    (tmp_path / "golden" / "greeting.txt").write_text("hello\nthere\n")
    differs = run(tmp_path)
    assert differs.returncode == 1
    for words in ("greeting.txt differs", "-there", "+world", "python -m pytest 'test_it.py::test_it' --update-golden"):
        assert words in differs.stdout
    assert run(tmp_path, "--update-golden").returncode == 0
    assert (tmp_path / "golden" / "greeting.txt").read_text() == "hello\nworld\n"
