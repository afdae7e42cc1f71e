"""On a real GPU: a small model searched, checked, compared with PyTorch and exported by one command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tuner import config as run_files
from tuner.commands.run import run
from tuner.progress import Progress

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

CONFIG = """
model: {{source: "torch:tests.tuner.bundle.models:small"}}
target: cuda
search: {{trials: 16, time_budget: 2m, batch: 8, effort: quick}}
baselines: {{models: [untuned, torch, onnxruntime]}}
measure: {{mode: cold, database: "sqlite:///{folder}/records.db", build_timeout: 120s}}
out: {folder}/runs
"""


def test_the_whole_way(tmp_path: Path) -> None:
    pytest.importorskip("pycuda")
    pytest.importorskip("tvm")
    outcome = run(run_files.parse(CONFIG.format(folder=tmp_path), "c.yaml"), "run", Progress())
    summary = json.loads((outcome.run_dir / "summary.json").read_text())
    whole = summary["end_to_end"]
    assert whole["verified"], summary["notes"]
    assert {"torch", "torch_graph", "onnxruntime_cpu"} <= whole["baselines"].keys(), summary["notes"]
    assert whole["tuned_s"] > 0
    for kernel in summary["kernels"]:
        assert kernel["verified"]
        assert kernel["tuned_s"] is None or kernel["tuned_s"] > 0
    assert any("cudnn" in kernel["baselines"] for kernel in summary["kernels"])
    if summary["export"] is not None:
        command = [sys.executable, str(outcome.run_dir / "export" / "run_model.py")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "ms for one call" in done.stdout
