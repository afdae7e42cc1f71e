"""`import tuner`, `--help` and what reads no model stay light: asked in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = (
    "tvm", "torch", "onnx", "onnxruntime", "optuna", "xgboost", "pandas", "matplotlib", "sqlalchemy", "numpy",
    "transformers", "scipy", "jinja2",
)  # fmt: skip

RUN = """
import json, runpy, sys
sys.argv = ["tuner", *{argv!r}]
try:
    runpy.run_module("tuner", run_name="__main__")
except SystemExit as done:
    assert done.code == {code}, done.code
"""
TELL = """
import json, sys
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code + TELL], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import tuner",
        "import tuner.cli, tuner.config, tuner.environment, tuner.devices.resolve, tuner.progress, tuner.commands.show",
        RUN.format(argv=["--help"], code=0),
        RUN.format(argv=["run", "--help"], code=0),
        RUN.format(argv=["config", "configs/resnet.yaml"], code=0),
        RUN.format(argv=["run", "configs/resnet.yaml", "--trials", "0"], code=2),
        RUN.format(argv=["list", "--out", "nowhere"], code=0),
        RUN.format(argv=["show", "latest", "--out", "nowhere"], code=2),
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    loaded = modules_after(code)
    assert "tuner" in loaded
    assert not loaded & set(HEAVY)


def test_this_test_would_notice() -> None:
    assert "numpy" in modules_after("import numpy")
