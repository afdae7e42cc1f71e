"""Calls of PyCUDA against the simulated driver: every outcome a kernel can have, through the real bench and command.

Needs PyCUDA and a C++ compiler with CUDA's headers, which `make setup` sees to; no GPU. What only a GPU can show is in
tests/gpu.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from kernels.tensors import TensorSpec, seeded_inputs
from tests import simulated_cuda
from tests.tuner.bundle import small
from tuner.bundle import write
from tuner.bundle.measurements import Row, read_measurements
from tuner.commands.measure import measure
from tuner.devices.cuda.bench import open_gpus
from tuner.devices.cuda.simulated.bench import SimulatedBench
from tuner.devices.cuda.simulated.target import ARCH, LABEL
from tuner.devices.gpu import bench as gpu_bench
from tuner.errors import TargetError
from tuner.process.worker import Child, ChildError
from tuner.progress import Progress
from tuner.protocols import CERTIFY, AaControl, Job, Reference
from tuner.records import Fidelity, Measurement, Status

ROOT = Path(__file__).resolve().parents[4]

OUTCOMES: Mapping[str, tuple[Status, str]] = {
    "forgets": (Status.WRONG_RESULT, "expected"),
    "faults": (Status.RUN_FAILED, "an illegal memory access"),
    "misaligned": (Status.RUN_FAILED, "misaligned address"),
    "races": (Status.RUN_FAILED, "a data race in shared memory"),
    "beyond shared": (Status.RUN_FAILED, "an illegal memory access was encountered"),
    "traps": (Status.RUN_FAILED, "the kernel trapped"),
    "greedy": (Status.RUN_FAILED, "too many resources"),
    "outside": (Status.WRONG_RESULT, "wrote outside argument 1"),
    "inputs": (Status.WRONG_RESULT, "changed input 0"),
    "unknown": (Status.RUN_FAILED, "named symbol not found"),
    "alien": (Status.RUN_FAILED, "no kernel image"),
    "hangs": (Status.RUN_TIMEOUT, "no reply within"),
    "waits for nobody": (Status.RUN_TIMEOUT, "no reply within"),
    "waits for the clock": (Status.OK, ""),
    "double": (Status.OK, ""),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """A kernel by its name, compiled once."""
    simulated_cuda.require()
    folder = tmp_path_factory.mktemp("kernels")
    return functools.cache(lambda name: simulated_cuda.compiled(name, folder))


def bundle(path: Path, kernels: list[str], built: Callable[[str], bytes], arch: str = ARCH) -> Path:
    """The small bundle with these kernels, for the simulated GPU."""
    manifest, blobs = small.content(0)
    manifest |= {"arch": arch, "target": '{"kind":"cuda","model":"simulated"}' if arch == ARCH else '{"kind":"cuda"}'}
    [task] = manifest["tasks"]
    for number, name in enumerate(kernels):
        cubin = built(name) + bytes([number])  # each is a file of its own
        blobs[small.digest(cubin)] = cubin
        manifest["items"].append(
            {"task": task["key"], "candidate": f'[{number},[],""]', "proposer": name, "cubin": small.digest(cubin),
             "plan": small.plan(), "build": 1.0, "usage": {}}
        )  # fmt: skip
    write(path, manifest, blobs)
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_bench, "RUN_TIMEOUT_S", 1.5)
    monkeypatch.setattr(gpu_bench, "_HEALTH_PAUSES_S", (0.0, 0.1))


def measured(folder: Path, gpus: list[int] | None = None) -> list[Row]:
    """The rows of `folder/b.tar`, measured."""
    _, code = measure(folder / "b.tar", folder / "m.jsonl", None, gpus, Progress())
    assert code == 0
    return list(read_measurements(folder / "m.jsonl")[1])


@pytest.mark.slow
def test_each_kernel_gets_its_status_and_the_next_one_is_fine(
    built: Callable[[str], bytes], impatient: None, tmp_path: Path
) -> None:
    names = [name for bad in OUTCOMES for name in (bad, "double")]
    bundle(tmp_path / "b.tar", names, built)
    rows = measured(tmp_path, [0])
    screened = {json.loads(r.candidate)[0]: r for r in rows if r.measurement.fidelity is Fidelity.SCREEN}
    assert len(screened) == len(names)
    for number, name in enumerate(names):
        got, (status, words) = screened[number].measurement, OUTCOMES[name]
        assert got.status is status, (name, got.reason)
        assert words in got.reason
        if status is Status.OK:
            assert got.samples_s == pytest.approx([simulated_cuda.SECONDS] * len(got.samples_s), rel=1e-6)
            assert got.conditions.details["single_call_s"] == pytest.approx(simulated_cuda.SECONDS, rel=1e-6)
            assert got.conditions.details["samples_preempted"] == got.conditions.details["samples_dropped"] == 0
            assert got.max_abs_error == 0.0
    assert rows[0].device == LABEL
    faulty = next(r.measurement for r in rows if r.proposer == "faults")
    assert faulty.conditions.details["tried_again_alone"] == 1, "a fault is tried again alone before it is believed"


def test_two_gpus_share_a_bundle(built: Callable[[str], bytes], tmp_path: Path) -> None:
    bundle(tmp_path / "b.tar", ["double"] * 10, built)
    rows = measured(tmp_path)
    assert len([row for row in rows if row.measurement.fidelity is Fidelity.SCREEN]) == 10
    assert len({row.key for row in rows}) == len(rows)


def test_what_cannot_be_measured_is_said(built: Callable[[str], bytes], tmp_path: Path) -> None:
    bundle(tmp_path / "b.tar", ["double"], built)
    with pytest.raises(TargetError, match="no GPU 7, there are 2"):
        measured(tmp_path, [0, 7])
    with pytest.raises(TargetError, match=f"GPU 0 is a {LABEL} \\(simulated\\), and this is for sm_100a"):
        open_gpus([0], "sm_100a", "cold", SimulatedBench)


def test_a_driver_without_a_gpu_is_said(built: Callable[[str], bytes]) -> None:
    service, env = "tuner.devices.cuda.simulated.kernel_service:SimulatedCounter", {"SIMULATED_CUDA_ABSENT": "1"}
    with Child(service, env=env) as child, pytest.raises(ChildError, match="no CUDA-capable device"):
        child.call("count", 60.0)


def test_other_inputs_than_the_bundles_are_noticed(built: Callable[[str], bytes], tmp_path: Path) -> None:
    manifest, blobs = small.content(0)
    cubin = built("double")
    blobs[small.digest(cubin)] = cubin
    [task] = manifest["tasks"]
    task["inputs"] = ["0" * 64]
    manifest["items"] = [{"task": task["key"], "candidate": '[0,[],""]', "proposer": "random",
                          "cubin": small.digest(cubin), "plan": small.plan()}]  # fmt: skip
    write(tmp_path / "b.tar", {**manifest, "arch": ARCH, "target": '{"kind":"cuda","model":"simulated"}'}, blobs)
    rows = measured(tmp_path, [0])
    assert {row.measurement.status for row in rows} == {Status.RUN_FAILED}
    assert "draws other inputs" in rows[0].measurement.reason


def interleaved(
    folder: Path, built: Callable[[str], bytes], *names: str
) -> tuple[list[Measurement], AaControl | None, bool]:
    """What interleaved timing says of kernels by name, the first one's A/A control, and whether the last one's outputs
    are right."""
    tensors = (TensorSpec(small.SHAPE, "float32"),)
    [x] = seeded_inputs(tensors, 3)
    np.savez(folder / "reference.npz", 2 * x)
    jobs = []
    for number, name in enumerate(names):
        path = folder / f"{number}.cubin"
        path.write_bytes(built(name))
        jobs.append(Job("t", name, path, name, tensors, tensors, 3, Reference(folder / "reference.npz", "float32", 1),
                        resources={"plan": small.plan()}))  # fmt: skip
    bench = SimulatedBench(0, "cold")
    try:
        policy = dataclasses.replace(CERTIFY, min_time_s=0.01, max_time_s=0.2)
        found, control = bench.measure_interleaved(jobs, policy, 0.3, 0)
        missing = bench.store_outputs(jobs[-1], folder / "outputs.npz")
    finally:
        bench.close()
    right = missing is None and np.array_equal(np.load(folder / "outputs.npz")["arr_0"], 2 * x)
    return found, control, bool(right)


def test_kernels_are_timed_interleaved(built: Callable[[str], bytes], tmp_path: Path) -> None:
    found, control, right = interleaved(tmp_path, built, "double", "forgets", "double")
    assert [m.status for m in found] == [Status.OK, Status.WRONG_RESULT, Status.OK]
    for each in (found[0], found[2]):
        assert each.samples_s == pytest.approx([simulated_cuda.SECONDS] * len(each.samples_s), rel=1e-6)
    assert control is not None
    assert list(found[0].conditions.rounds) == list(found[2].conditions.rounds) == [control.rounds]
    assert right


@pytest.mark.parametrize("name", ["faults", "hangs", "outside"])
def test_one_that_breaks_the_rounds_is_the_only_one_blamed(
    name: str, built: Callable[[str], bytes], impatient: None, tmp_path: Path
) -> None:
    found, _, right = interleaved(tmp_path, built, "double", name, "double")
    assert [m.status for m in found] == [Status.OK, OUTCOMES[name][0], Status.OK]
    assert OUTCOMES[name][1] in found[1].reason
    assert right


def test_the_command_finds_a_driver_as_it_finds_nvidias(built: Callable[[str], bytes], tmp_path: Path) -> None:
    """In a process of its own, where the simulated driver stands in for NVIDIA's and the kind of device is CUDA."""
    bundle(tmp_path / "b.tar", ["double"], built, arch="sm_90a")
    command = [sys.executable, "-m", "tuner", "measure", str(tmp_path / "b.tar"), "-o", str(tmp_path / "m.jsonl")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**simulated_cuda.environment(), "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_measurements(tmp_path / "m.jsonl")[1]
    assert {row.measurement.status for row in rows} == {Status.OK}
