"""`run` on PoCL, the whole way: search, certification, the assembled model verified, the report, the export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import unlabelled
from tests.tuner.devices.opencl.hand_written import pocl
from tuner import config as run_files
from tuner.commands import run as command
from tuner.devices import resolve
from tuner.devices.opencl import OPENCL
from tuner.progress import Progress
from tuner.store import SqlStore

pytestmark = pytest.mark.slow

CONFIG = """
model: {source: "torch:tests.tuner.bundle.models:small"}
target: {kind: opencl, platform: Portable Computing Language}
search: {effort: quick, time_budget: 5s}
baselines: {models: [untuned, torch], kernels: false}
"""


def test_a_run_ends_verified_and_says_that_its_times_are_a_cpu_s(tmp_path: Path) -> None:
    pocl()
    (tmp_path / "run.yaml").write_text(
        f"{CONFIG}measure: {{database: sqlite:///{tmp_path}/r.db}}\nout: {tmp_path}/runs\n"
    )
    outcome = command.run(run_files.load(str(tmp_path / "run.yaml")), "tuner run", Progress())
    assert outcome.exit_code == 0, outcome.lines
    summary = json.loads((outcome.run_dir / "summary.json").read_text())
    assert summary["end_to_end"]["verified"]
    said = "a CPU, its times are not a GPU's"
    assert said in summary["target"]["device"]
    report = (outcome.run_dir / "report.md").read_text()
    assert said in report
    [sentence] = resolve.caveats_of(resolve.resolve(run_files.load(str(tmp_path / "run.yaml")).target)).sentences
    assert "none of them says anything of a GPU" in sentence
    assert sentence in outcome.lines
    assert not unlabelled.in_lines(outcome.lines, ["CPU's time"])
    assert not unlabelled.in_markdown(report, ["CPU's time"], [sentence])
    assert sorted(p.name for p in (outcome.run_dir / "export").iterdir()) == [
        "manifest.json", "model.bin", "model.cl", "model.json", "model.plan", "run_model.c", "run_model.py",
    ]  # fmt: skip
    with SqlStore(f"sqlite:///{tmp_path}/r.db") as store:
        [scope] = {record.scope for record in store.read()}
    resolved = resolve.resolve(run_files.load(str(tmp_path / "run.yaml")).target)
    assert scope == OPENCL.scope(resolved.text, resolved.device, resolved.threads, "hot")
