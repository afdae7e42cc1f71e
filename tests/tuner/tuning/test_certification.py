"""Certification with real kernels: several processes, who is blamed, and who takes the place of one that fails."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.passes import PASSES
from kernels.space import Candidate
from tests.tuner.devices.cpu.test_bench import _hostile
from tests.tuner.devices.test_builder import matmul
from tuner.devices.cpu import CPU
from tuner.devices.cpu.bench import KernelBench
from tuner.measure.metadata import metadata_lines, metadata_sentence
from tuner.measure.plausible import plausible
from tuner.measure.pooled import compare_measurements, fastest, paired_samples
from tuner.process.pinning import thread_env
from tuner.protocols import CERTIFY, Artifact, Job, Reference, Task, job_of
from tuner.records import Fidelity, Status
from tuner.tuning.certification import Certification

TARGET = json.dumps({"kind": "llvm", "num-cores": 2})
Jobs = dict[Candidate, Job]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Two good schedules of a matmul and the untuned program, in this order."""
    folder = tmp_path_factory.mktemp("certify")
    task = Task(matmul(), TARGET)
    builder = CPU.builder(TARGET, folder / "built", 2, 60)
    try:
        space = builder.space(task, tuple(PASSES))
        candidates = [*space.initial_candidates()[:2], space.default()]
        built = builder.build(task, candidates)
        found = builder.reference(task, [1], folder)
    finally:
        builder.close()
    assert not isinstance(found, str)
    made: Jobs = {}
    for candidate, artifact in zip(candidates, built, strict=True):
        assert isinstance(artifact, Artifact)
        made[candidate] = job_of(task, candidate, artifact, 1, found[1])
    return made


@pytest.fixture
def bench() -> Iterator[KernelBench]:
    made = KernelBench("hot", 1, thread_env(1), timeout_s=20)
    yield made
    made.close()


def reference_of(job: Job) -> Reference:
    assert job.reference is not None
    return job.reference


def _certify(jobs: Jobs, bench: KernelBench, processes: int = 2, lower_bound_s: float = 0.0) -> dict[Candidate, Any]:
    certification = Certification("run/task", list(jobs), jobs, {})
    for _ in range(processes):
        bench.renew()
        certification.measure(bench, 0.3)
    assert certification.processes == processes
    return certification.settle(lambda measured: plausible(measured, lower_bound_s))


def test_finalists_are_interleaved_in_fresh_processes(jobs: Jobs, bench: KernelBench) -> None:
    found = _certify(jobs, bench, processes=3)
    first, second, default = found.values()
    for measured in found.values():
        assert measured.status is Status.OK, measured.reason
        assert measured.fidelity is Fidelity.CERTIFY
        assert measured.conditions.details["processes"] == 3
        assert measured.conditions.details["clock_share"] <= 1.1e-4
        assert measured.stopped_by in ("time limit", "half-width", "noise stable")
        assert measured.max_rel_error < 1e-5
        assert sum(map(len, measured.conditions.rounds)) == len(measured.samples_s)
    assert len(paired_samples(first, second)[0]) >= 9
    assert set(paired_samples(first, second)[2]) == {0, 1, 2}
    ratio, floor = compare_measurements(first, default).ratio, first.conditions.aa_floor
    assert ratio is not None and ratio < 1
    assert floor is not None and floor >= 0


def test_the_metadata_says_it_in_words(jobs: Jobs, bench: KernelBench) -> None:
    measured = next(iter(_certify(jobs, bench).values()))
    said = dict(metadata_lines(measured))
    assert said["samples"].endswith("in 2 fresh processes")
    for name in ("stopped by", "A/A floor", "dropped", "load before", "switched out", "clock share", "threads"):
        assert said[name], name
    assert "TVM_NUM_THREADS=1" in said["threads"]
    assert "2 fresh processes" in metadata_sentence(measured)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("volatile int *p = 0; *p = 1;", Status.RUN_FAILED, "SIGSEGV"),
        ("", Status.WRONG_RESULT, "not finite"),  # writes nothing
    ],
)
def test_only_the_culprit_is_blamed_and_the_next_finalist_wins(
    jobs: Jobs, bench: KernelBench, tmp_path: Path, body: str, status: Status, says: str
) -> None:
    first, second, default = jobs
    hostile = dataclasses.replace(jobs[first], path=Path(_hostile(tmp_path, body)), entry="hostile")
    found = _certify({first: hostile, second: jobs[second], default: jobs[default]}, bench)
    assert found[first].status is status, found[first].reason
    assert says in found[first].reason
    assert found[second].ok and found[default].ok
    assert fastest([found[c] for c in (first, second)]) == 1


def test_the_impossible_is_suspect_and_does_not_win(jobs: Jobs, bench: KernelBench) -> None:
    found = _certify(jobs, bench, processes=1, lower_bound_s=10.0)
    assert {m.status for m in found.values()} == {Status.SUSPECT}
    assert fastest(list(found.values())) is None


def test_a_wrong_reference_stops_a_kernel_before_it_is_timed(jobs: Jobs, bench: KernelBench, tmp_path: Path) -> None:
    first, second, default = jobs
    with np.load(reference_of(jobs[first]).path, allow_pickle=False) as stored:
        expected = stored["arr_0"].copy()
    expected[3, 3] += np.abs(expected).max()
    other = tmp_path / "other.npz"
    with open(other, "wb") as file:
        np.savez(file, expected)
    wrong = dataclasses.replace(reference_of(jobs[second]), path=other)
    found = _certify({**jobs, second: dataclasses.replace(jobs[second], reference=wrong)}, bench, processes=1)
    assert found[second].status is Status.WRONG_RESULT
    assert not found[second].samples_s
    assert found[first].ok and found[default].ok


def test_a_kernel_against_itself_is_not_called_different(jobs: Jobs, bench: KernelBench) -> None:
    job = next(iter(jobs.values()))
    policy = dataclasses.replace(CERTIFY, max_time_s=1.0)
    measured, control = bench.measure_interleaved([job, job], policy, 0.4, seed=0)
    assert control is not None and len(control.rounds) >= 3
    assert [m.ok for m in measured] == [True, True]
    ratio = measured[0].median_s / measured[1].median_s
    assert 0.5 < ratio < 2.0
