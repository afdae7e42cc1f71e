"""Hostile names of models, tensors and layers cannot become paths, symbols, commands or lines of a report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.tuner.importers import graphs
from tuner.commands.prepare import run_folder
from tuner.config import ModelConfig, RunConfig

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "$(touch pwned)`touch pwned`;touch pwned|touch pwned",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "a\nb\r\x1b[2J\x00\u202ec",
    "%s%n{0}{x.__class__}${jndi:x}",
    "名" * 300,
    "..",
    "-rf",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_lies_in_the_folder_for_runs(name: str, tmp_path: Path) -> None:
    folder = run_folder(RunConfig(ModelConfig(f"onnx:{name}"), out=str(tmp_path / "runs")), None)
    assert folder.parent == tmp_path / "runs"
    assert re.fullmatch(r"[0-9]{8}-[0-9]{6}[a-z0-9-]{1,48}", folder.name)


def hostile_model() -> onnx.ModelProto:
    """`graphs.conv_net` with every name in it replaced."""
    model = graphs.conv_net()
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    new = {name: f"{HOSTILE[i % len(HOSTILE)]}{i}" for i, name in enumerate(sorted(names))}
    for number, node in enumerate(model.graph.node):
        node.name = HOSTILE[number % len(HOSTILE)]
        node.doc_string = HOSTILE[-number % len(HOSTILE)]
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = new[value.name]
    model.graph.name = HOSTILE[3]
    return model


def test_names_in_a_model_are_not_names_of_kernels(tmp_path: Path) -> None:
    source = graphs.save(hostile_model(), tmp_path, "$(touch pwned)<b>.onnx")
    (tmp_path / "run.yaml").write_text(f"model: {{source: {json.dumps(source)}}}\ntarget: llvm\n")
    command = [sys.executable, "-m", "tuner", "tasks", str(tmp_path / "run.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) > 3
    assert all(re.fullmatch(r"\w+", row[0]) and re.fullmatch(r"[0-9a-f]{16}", row[1]) for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["$(touch pwned)<b>.onnx", "run.yaml"]
