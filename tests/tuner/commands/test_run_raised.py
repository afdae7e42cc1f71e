"""`run` of functions of C programs: what is slower stays as it was, and what a GPU computes is checked by the original."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="the extra `llvm` is not installed")

from tests import simulated_cuda
from tuner import cli
from tuner import config as run_files
from tuner.commands.run import run
from tuner.progress import Progress
from tuner.records import Fidelity, Status
from tuner.store import SqlStore

CODE = """
void added(int n, const float *x, float *y) { for (int i = 0; i < n; i++) y[i] += x[i]; }
void product(int n, const float *a, const float *b, float *c) {
  for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) {
    float s = 0;
    for (int k = 0; k < n; k++) s += a[i * n + k] * b[k * n + j];
    c[i * n + j] = s;
  }
}
"""
CONFIG = """
model: {{source: "llvm:{folder}/code.c", function: {function}, sizes: {{n: {n}}}, allow_reassociation: true}}
target: {target}
search: {{effort: quick, trials: 2, time_budget: 5s, strategy: random, batch: 2}}
baselines: {{models: [untuned], kernels: false}}
measure: {{database: "sqlite:///{folder}/r.db", build_timeout: 120s}}
report: {{formats: [md]}}
out: {folder}/runs
"""


def config_of(folder: Path, **words: object) -> str:
    (folder / "code.c").write_text(CODE)
    return CONFIG.format(folder=folder, **words)


def test_a_function_that_is_slower_than_the_original_is_not_exported(tmp_path: Path) -> None:
    """The guard, and a copy of what is read and written, take longer than three hundred additions."""
    text = config_of(tmp_path, function="added", n=300, target="{threads: 1}")
    outcome = run(run_files.parse(text, "run.yaml"), "run", Progress())
    assert outcome.exit_code == 0
    summary = json.loads((outcome.run_dir / "summary.json").read_text())
    assert summary["end_to_end"]["verified"] is True
    assert summary["export"] is None and not (outcome.run_dir / "export").exists()
    [why] = [note for note in summary["notes"] if note.startswith("not exported: ")]
    assert "original" in why
    assert why in (outcome.run_dir / "report.md").read_text()


@pytest.mark.slow
def test_on_the_simulated_gpu_the_original_says_what_is_right(tmp_path: Path) -> None:
    simulated_cuda.require()
    text = config_of(tmp_path, function="product", n=16, target="simulated_cuda")
    outcome = run(run_files.parse(text, "run.yaml"), "run", Progress())
    summary = json.loads((outcome.run_dir / "summary.json").read_text())
    assert summary["end_to_end"]["verified"] is True, summary["notes"]
    assert set(summary["end_to_end"]["verdicts"]) == {"untuned"}, "an estimate is not compared with real time"
    assert not list((outcome.run_dir).glob("export/libproduct*"))


@pytest.mark.slow
def test_a_bundle_of_a_raised_function_is_measured_elsewhere_and_comes_back(tmp_path: Path) -> None:
    simulated_cuda.require()
    config, packed, results = tmp_path / "run.yaml", tmp_path / "b.tar", tmp_path / "m.jsonl"
    config.write_text(config_of(tmp_path, function="product", n=16, target="simulated_cuda"))
    assert cli.main(["bundle", str(config), "-n", "2", "-o", str(packed)]) == 0
    assert cli.main(["measure", str(packed), "-o", str(results)]) == 0
    assert cli.main(["import", str(results), "--database", f"sqlite:///{tmp_path}/r.db"]) == 0
    with closing(SqlStore(f"sqlite:///{tmp_path}/r.db")) as store:
        records = list(store.read())
    assert {r.measurement.status for r in records if r.measurement.fidelity is Fidelity.CERTIFY} == {Status.OK}
