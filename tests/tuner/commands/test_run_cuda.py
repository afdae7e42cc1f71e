"""`run` on CUDA without a GPU: for one that is not here, and on the simulated GPU, where kernels are executed."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch

from tests import simulated_cuda, unlabelled
from tuner import config as run_files
from tuner.commands.prepare import imported
from tuner.commands.run import run
from tuner.devices import resolve
from tuner.devices.cuda import CUDA
from tuner.export.library import read_manifest, verify
from tuner.importers import input_sets, torch_module
from tuner.measure.replay import Recording
from tuner.progress import Progress
from tuner.records import Fidelity
from tuner.report import tables
from tuner.store import SqlStore

CONFIG = """
model: {{source: "torch:tests.tuner.bundle.models:small"}}
target: {{tag: nvidia/nvidia-h100}}
search: {{strategy: random, trials: 4, time_budget: 10m, batch: 3, effort: quick}}
measure: {{mode: cold, database: "sqlite:///{folder}/{name}.db", build_timeout: 120s}}
out: {folder}/{name}
"""

CEILINGS = {
    "peak_flops_per_s": 5e13, "peaks": {"float32": 5e13}, "bandwidth_bytes_per_s": 4e12, "levels": [], "cache_bytes": 0,
}  # fmt: skip


@pytest.mark.slow
def test_for_a_gpu_that_is_not_here_kernels_are_built_and_nothing_is_exported(compiler: None, tmp_path: Path) -> None:
    """What would be timed is looked up in a recording, in which nothing is."""
    Recording({}, CEILINGS).save(tmp_path / "times.json")
    config = run_files.parse(CONFIG.format(folder=tmp_path, name="run"), "run.yaml")
    outcome = run(config, "run", Progress(), replay=tmp_path / "times.json")
    assert outcome.exit_code == 0
    with closing(SqlStore(f"sqlite:///{tmp_path}/run.db")) as store:
        assert len({(r.task_key, r.candidate) for r in store.read()}) > 2
    summary = json.loads((outcome.run_dir / "summary.json").read_text())
    assert (summary["target"]["kind"], len(summary["kernels"])) == ("cuda", 2)
    assert summary["end_to_end"]["tuned_s"] is None
    assert summary["export"] is None and not (outcome.run_dir / "export").exists()
    assert any("not exported: without its device" in note for note in summary["notes"])
    for name in ("report.html", "report.md", "kernels.csv", "environment.json", "config.yaml"):
        assert (outcome.run_dir / name).stat().st_size > 0


SIMULATED = """
model: {{source: "torch:configs.models:small_half"}}
target: simulated_cuda
search: {{effort: quick, time_budget: 5s, strategy: random, batch: 4}}
baselines: {{models: [untuned], kernels: false}}
measure: {{database: "sqlite:///{folder}/r.db"}}
out: {folder}/runs
"""


@pytest.mark.slow
def test_the_whole_way_on_the_simulated_gpu(tmp_path: Path) -> None:
    simulated_cuda.require()
    config = run_files.parse(SIMULATED.format(folder=tmp_path), "run.yaml")
    outcome = run(config, "run", Progress())
    assert outcome.exit_code == 0, outcome.lines
    caveats = resolve.caveats_of(resolve.resolve(config.target))
    words, report = (caveats.kernel.words, caveats.model.words), (outcome.run_dir / "report.md").read_text()
    assert set(caveats.sentences) <= set(outcome.lines)
    assert not unlabelled.in_lines(outcome.lines, words)
    assert not unlabelled.in_markdown(report, words, caveats.sentences)
    assert "measured ceilings" not in report
    assert "data-sheet ceilings" in report
    summary = json.loads((outcome.run_dir / "summary.json").read_text())
    assert summary["end_to_end"]["verified"]
    assert summary["target"]["kind"] == "simulated_cuda"
    assert "its times are estimates" in report
    assert all(kernel["metadata"]["times"] == "estimate" for kernel in summary["kernels"] if kernel["metadata"])
    on_tensor_cores = tables.peak_of({"arithmetic": "float16 on tensor cores"}, summary["ceilings"])
    assert on_tensor_cores is not None
    assert on_tensor_cores.flops_per_s > 5e14
    assert {kernel["arithmetic"].partition(" ")[0] for kernel in summary["kernels"]} == {"float16"}
    assert sum(summary["search"]["counts"].values()) == summary["search"]["measured"]
    manifest = read_manifest(outcome.run_dir / "export")
    assert (manifest["device"], manifest["times"]) == ("simulated_cuda", "host's time")
    model = imported(config)
    module, _ = torch_module(model.model_spec)
    inputs = next(one.arrays for one in input_sets(model.inputs, model.model_spec, 0))
    expected = module.double()(*[torch.from_numpy(array).double() for array in inputs]).detach().numpy()
    check = verify(outcome.run_dir / "export", inputs, [expected], 2e-3, 2e-3)
    assert check.ok, f"by `python run_model.py`: {check.reason}"
    target = resolve.resolve(config.target)
    with closing(SqlStore(f"sqlite:///{tmp_path}/r.db")) as store:
        records = list(store.read())
    assert {r.scope for r in records} == {resolve.kind_of(target).scope(target.text, target.device, 1, "hot")}
    assert CUDA.scope(target.text, target.device, 1, "hot") not in {r.scope for r in records}
    assert any(r.measurement.ok and r.measurement.fidelity is Fidelity.CERTIFY for r in records)
