"""A GPU candidate and sabotages of it under Oclgrind, which looks at every access. experiments/opencl/oclgrind.py runs
every kind of program."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_candidate_is_clean_and_its_sabotages_are_seen(tmp_path: Path) -> None:
    pytest.importorskip("pyopencl")
    if shutil.which("oclgrind") is None:
        pytest.skip("Oclgrind is not installed (Debian: apt install oclgrind)")
    command = [sys.executable, "experiments/opencl/oclgrind.py", "-n", "1", "--json", str(tmp_path / "found.json")]
    done = subprocess.run([*command, "matmul of odd"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["executed"], found["clean"], found["findings"]) == (1, 1, {})
    barriers = found["sabotages"]["a barrier less"]
    assert barriers["made"] == barriers["by Oclgrind"] == 2, "a data race each"
    assert found["sabotages"]["half of the local memory"]["by Oclgrind"] == 1
    assert all(counts["by either"] == counts["made"] for counts in found["sabotages"].values())
