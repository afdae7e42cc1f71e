"""`run` on CUDA without a GPU: the whole way on a small model, with recorded times in place of the device's, and on the
simulated GPU, where kernels are executed."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from kernels.space import Candidate
from tests import simulated_cuda
from tuner import config as run_files
from tuner.commands.run import run
from tuner.devices import resolve
from tuner.devices.builder import entry_of
from tuner.devices.cuda import CUDA
from tuner.measure.replay import Recording
from tuner.progress import Progress
from tuner.records import Fidelity, Measurement, Status
from tuner.store import SqlStore

CONFIG = """
model: {{source: "torch:tests.tuner.bundle.models:small"}}
target: {{tag: nvidia/nvidia-h100}}
search: {{strategy: random, trials: 6, time_budget: 10m, batch: 3, effort: quick}}
measure: {{mode: cold, database: "sqlite:///{folder}/{name}.db", build_timeout: 120s}}
out: {folder}/{name}
"""

CEILINGS = {
    "peak_flops_per_s": 5e13, "peaks": {"float32": 5e13}, "bandwidth_bytes_per_s": 4e12, "levels": [], "cache_bytes": 0,
}  # fmt: skip


def _run(folder: Path, name: str, recording: Recording) -> tuple[Path, SqlStore]:
    recording.save(folder / f"{name}.json")
    config = run_files.parse(CONFIG.format(folder=folder, name=name), f"{name}.yaml")
    outcome = run(config, "run", Progress(), replay=folder / f"{name}.json")
    assert outcome.exit_code == 0
    return outcome.run_dir, SqlStore(f"sqlite:///{folder}/{name}.db")


@pytest.mark.slow
def test_the_whole_way_without_a_gpu(compiler: None, tmp_path: Path) -> None:
    _, store = _run(tmp_path, "first", Recording({}, CEILINGS))
    with closing(store):
        proposed = {(r.task_key, r.candidate) for r in store.read()}
    times: dict[tuple[str, Fidelity], Measurement] = {}
    for number, (task, text) in enumerate(sorted(proposed)):
        candidate = Candidate.from_text(text)
        seconds = 1e-4 if candidate.is_default else (10 + number) * 1e-6
        for fidelity in Fidelity:
            samples = tuple(seconds * (1 + 1e-4 * i) for i in range(12))
            times[entry_of(task, candidate), fidelity] = Measurement(Status.OK, samples, fidelity)
    folder, store = _run(tmp_path, "second", Recording(times, CEILINGS))
    with closing(store):
        fidelities = {r.measurement.fidelity for r in store.read() if r.measurement.ok}
        assert fidelities == set(Fidelity), "what was screened was ranked and certified"
        assert {(r.task_key, r.candidate) for r in store.read()} == proposed

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["target"]["kind"] == "cuda"
    assert len(summary["kernels"]) == 2
    for kernel in summary["kernels"]:
        assert kernel["verdict"] == "FASTER"
        assert kernel["verified"]
        assert kernel["tuned_s"] < kernel["untuned_s"] == pytest.approx(1e-4, rel=0.01)
    assert summary["end_to_end"]["tuned_s"] is None
    assert summary["export"] is None, "what was not verified is not exported"
    assert any("not exported: without its device" in note for note in summary["notes"])
    for name in ("report.html", "report.md", "kernels.csv", "environment.json", "config.yaml"):
        assert (folder / name).stat().st_size > 0
    assert not (folder / "export").exists()


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
    assert any("no GPU was used" in line for line in outcome.lines)
    summary = json.loads((outcome.run_dir / "summary.json").read_text())
    assert summary["end_to_end"]["verified"]
    assert summary["target"]["kind"] == "simulated_cuda"
    assert "its times are estimates" in (outcome.run_dir / "report.md").read_text()
    assert (outcome.run_dir / "export" / "manifest.json").stat().st_size > 0
    target = resolve.resolve(config.target)
    with closing(SqlStore(f"sqlite:///{tmp_path}/r.db")) as store:
        records = list(store.read())
    assert {r.scope for r in records} == {resolve.kind_of(target).scope(target.text, target.device, 1, "hot")}
    assert CUDA.scope(target.text, target.device, 1, "hot") not in {r.scope for r in records}
    assert any(r.measurement.ok and r.measurement.fidelity is Fidelity.CERTIFY for r in records)
