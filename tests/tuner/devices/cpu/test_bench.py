"""Kernels in their child: checked before they are timed, and after; hostile ones become statuses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.passes import PASSES
from kernels.space import Candidate
from kernels.tensors import ConstantOperands
from kernels.workload import TensorSpec
from tests.tuner.devices.test_builder import matmul
from tuner.devices.cpu import CPU
from tuner.devices.cpu.bench import KernelBench
from tuner.devices.cpu.codegen import linker
from tuner.devices.cpu.machine import read_round_trips
from tuner.devices.cpu.round_trip import RoundTripProbe
from tuner.measure.metadata import metadata_lines
from tuner.measure.pooled import pool_processes
from tuner.process.pinning import thread_env
from tuner.protocols import RANK, SCREEN, Artifact, Job, Reference, Task, job_of
from tuner.records import Measurement, Status

TARGET = json.dumps({"kind": "llvm", "num-cores": 2})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Artifact, Reference]:
    folder = tmp_path_factory.mktemp("kernel")
    task = Task(matmul(), TARGET)
    builder = CPU.builder(TARGET, folder / "built", 1, 60)
    try:
        [artifact] = builder.build(task, builder.space(task, tuple(PASSES)).initial_candidates()[:1])
        found = builder.reference(task, [0], folder)
    finally:
        builder.close()
    assert isinstance(artifact, Artifact)
    assert not isinstance(found, str)
    return task, artifact, found[0]


@pytest.fixture
def bench() -> Iterator[KernelBench]:
    made = KernelBench("hot", 1, thread_env(1), timeout_s=20)
    yield made
    made.close()


def _job(built: tuple[Task, Artifact, Reference], **changes: Any) -> Job:
    task, artifact, reference = built
    return replace(job_of(task, Candidate(0), artifact, 0, reference), **changes)


def test_a_good_kernel_is_timed(built: Any, bench: KernelBench) -> None:
    measurement = bench.measure(_job(built), SCREEN)
    assert measurement.status is Status.OK, measurement.reason
    assert len(measurement.samples_s) >= SCREEN.min_samples
    assert 1e-7 < measurement.median_s < 1e-2
    assert measurement.max_rel_error is not None
    assert measurement.max_rel_error < 1e-5


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU only")
def test_the_state_of_the_cpus_is_stored_with_kernels_that_are_compared(built: Any, tmp_path: Path) -> None:
    probe = RoundTripProbe(sorted(os.sched_getaffinity(0))[:2], tmp_path)
    bench = KernelBench("hot", 1, thread_env(1), timeout_s=20, probe=probe)
    try:
        measured, _ = bench.measure_interleaved([_job(built), _job(built)], RANK, 0.3, seed=0)
        bench.renew()
        again, _ = bench.measure_interleaved([_job(built), _job(built)], RANK, 0.3, seed=0)
    finally:
        bench.close()
    trips = [one.conditions.details["round_trips_s"] for one in measured]
    assert trips[0] == trips[1]
    assert 1 <= len(trips[0]) <= 2
    assert all(5e-9 < s < 50e-6 for s in trips[0])
    pooled = pool_processes([measured[0], again[0]], "session")
    assert pooled.conditions.details["round_trips_s"][: len(trips[0])] == trips[0]
    assert "between the CPUs" in dict(metadata_lines(pooled))["round trip"]
    assert Measurement.from_json(pooled.to_json()) == pooled
    assert read_round_trips(tmp_path, 2)


def test_a_wrong_result_is_never_timed(built: Any, bench: KernelBench, tmp_path: Path) -> None:
    with np.load(built[2].path, allow_pickle=False) as stored:
        expected = stored["arr_0"].copy()
    expected[5, 7] += 0.01 * np.abs(expected).max()
    other = tmp_path / "other.npz"
    with open(other, "wb") as file:
        np.savez(file, expected)
    measurement = bench.measure(_job(built, reference=replace(built[2], path=other)), SCREEN)
    assert measurement.status is Status.WRONG_RESULT
    assert not measurement.samples_s


def test_slower_than_the_limit_is_censored(built: Any, bench: KernelBench) -> None:
    measurement = bench.measure(_job(built), replace(SCREEN, give_up_above_s=1e-9))
    assert measurement.status is Status.CENSORED
    assert measurement.censored_at_s == 1e-9


# A kernel with TVM's calling convention, in C: argument 2 is the output, a DLTensor whose data comes first.
_C = """
#include <stdint.h>
#include <stdlib.h>
typedef struct {{ int32_t type_index; uint32_t pad; union {{ int64_t i; void *p; }} v; }} Any;
int __tvm_ffi_hostile(void *self, const Any *args, int32_t count, Any *result) {{
  {body}
  return 0;
}}
"""


def _hostile(folder: Path, body: str) -> str:
    source, made, shared = folder / "hostile.c", folder / "hostile.o", folder / "hostile.so"
    source.write_text(_C.format(body=body))
    subprocess.run(["cc", "-O0", "-fPIC", "-c", str(source), "-o", str(made)], check=True)
    subprocess.run([*linker(), "-o", str(shared), str(made)], check=True)
    return str(shared)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("volatile int *p = 0; *p = 1;", Status.RUN_FAILED, "SIGSEGV"),
        ("abort();", Status.RUN_FAILED, "SIGABRT"),
        ("_Exit(3);", Status.RUN_FAILED, "code 3"),
        ("for (;;) ;", Status.RUN_TIMEOUT, "no reply"),
        ("", Status.WRONG_RESULT, ""),  # writes nothing: the output is still NaN
    ],
)
def test_hostile_kernels_become_statuses(built: Any, tmp_path: Path, body: str, status: Status, says: str) -> None:
    bench = KernelBench("hot", 1, thread_env(1), timeout_s=6)
    try:
        job = _job(built, path=Path(_hostile(tmp_path, body)), entry="hostile")
        measurement = bench.measure(job, replace(SCREEN, max_time_s=0.1))
        assert measurement.status is status, measurement.reason
        assert says in measurement.reason
        healthy = bench.measure(_job(built), SCREEN)
        assert healthy.ok, healthy.reason
    finally:
        bench.close()


@pytest.mark.parametrize(("constants", "copies"), [(ConstantOperands((1,), 1 << 20), 64), (ConstantOperands(), None)])
def test_constants_take_turns_as_in_the_model(
    built: Any, constants: ConstantOperands, copies: int | None, tmp_path: Path
) -> None:
    builder = CPU.builder(TARGET, tmp_path / "built", 1, 60)
    try:
        builder.space(built[0], tuple(PASSES))
        references = builder.reference(built[0], [0, 1], tmp_path)
    finally:
        builder.close()
    assert not isinstance(references, str)
    job = _job(built, constants=constants, recheck=(1, references[1]))
    bench = KernelBench("model", 1, thread_env(1), timeout_s=20)
    try:
        alone = bench.measure(job, SCREEN)
        together, control = bench.measure_interleaved([job, job], SCREEN, 0.3, seed=0)
    finally:
        bench.close()
    assert control is not None
    for measured in (alone, *together):
        assert measured.ok, measured.reason  # also right on other inputs: not those of the copies
        assert measured.conditions.details["mode"] == "model"
        assert measured.conditions.details.get("constant_copies") == copies
    assert f"{copies} copies" in dict(metadata_lines(alone))["caches"] or copies is None


def test_inputs_are_described_by_data_alone(built: Any) -> None:
    job = _job(built)
    data = json.loads(json.dumps(job.to_json()))
    assert data["inputs"] == [[[64, 64], "float32", 1], [[64, 64], "float32", 1]]
    assert Job.from_json(data) == job
    assert TensorSpec((64, 64), "float32").nbytes == 64 * 64 * 4
