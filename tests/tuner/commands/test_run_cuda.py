"""`run` on CUDA without a GPU: the whole way on a small model, with recorded times in place of the device's."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from kernels.space import Candidate
from tuner import config as run_files
from tuner.commands.run import run
from tuner.devices.builder import entry_of
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
