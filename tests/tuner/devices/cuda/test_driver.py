"""Calls of PyCUDA against a simulated driver: every outcome a kernel can have, through the real command.

Needs PyCUDA (built against any libcuda) and a C compiler with CUDA's headers; no GPU. What only a GPU can show is in
tests/gpu.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.bundle import small
from tuner.bundle import write
from tuner.bundle.measurements import Row, read_measurements
from tuner.protocols import AaControl
from tuner.records import Fidelity, Status

ROOT = Path(__file__).resolve().parents[4]
DRIVER = ROOT / "tests" / "simulated_cuda" / "driver.c"

MEASURE = """
import sys
from tuner.cli import main
from tuner.devices.gpu import bench
bench.RUN_TIMEOUT_S = 2.0
bench._HEALTH_PAUSES_S = (0.0, 0.1)
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def _path(environment: dict[str, str]) -> str:
    return os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def headers() -> Path | None:
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda", nvcc and str(Path(nvcc).resolve().parents[1])]
    return next((Path(h) / "include" for h in homes if h and (Path(h) / "include" / "cuda.h").exists()), None)


INTERLEAVED = """
import dataclasses, json, sys
from pathlib import Path
import numpy as np
from kernels.tensors import TensorSpec, seeded_inputs
from tests.tuner.bundle.small import SHAPE, plan
from tuner.devices.cuda.bench import CudaBench
from tuner.devices.gpu import bench as module
from tuner.protocols import CERTIFY, Job, Reference
module.RUN_TIMEOUT_S = 1.0
module._HEALTH_PAUSES_S = (0.0, 0.1)

def main(folder, names):
    tensors = (TensorSpec(SHAPE, "float32"),)
    [x] = seeded_inputs(tensors, 3)
    np.savez(folder / "reference.npz", 2 * x)
    reference = Reference(folder / "reference.npz", "float32", 1)
    jobs = []
    for number, name in enumerate(names):
        path = folder / f"{number}.cubin"
        path.write_bytes(b"\\x7fELF" + name.encode() + b"\\0")
        jobs.append(Job("t", name, path, name, tensors, tensors, 3, reference, resources={"plan": plan()}))
    bench = CudaBench(0, "cold")
    policy = dataclasses.replace(CERTIFY, min_time_s=0.01, max_time_s=0.2)
    measured, control = bench.measure_interleaved(jobs, policy, 0.3, 0)
    missing = bench.store_outputs(jobs[-1], folder / "outputs.npz")
    bench.close()
    right = missing is None and np.array_equal(np.load(folder / "outputs.npz")["arr_0"], 2 * x)
    rows = [[m.status, m.reason, m.median_s if m.ok else None, m.conditions.rounds] for m in measured]
    print(json.dumps([rows, None if control is None else control.to_json(), bool(right)]))

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that finds the simulated driver."""
    spec = importlib.util.find_spec("pycuda")
    compiler, nm, include = shutil.which("cc"), shutil.which("nm"), headers()
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("PyCUDA is not installed")
    if not (compiler and nm and include):
        pytest.skip("needs a C compiler, nm and cuda.h")
    folder = tmp_path_factory.mktemp("driver")
    [module] = Path(spec.submodule_search_locations[0]).glob("_driver*.so")
    wanted = set(re.findall(r" U (cu\w+)", subprocess.check_output([nm, "-D", str(module)], text=True)))
    build = [compiler, "-shared", "-fPIC", "-w", f"-I{include}", "-o"]
    subprocess.run([*build, str(folder / "have.so"), str(DRIVER)], check=True)
    have = set(re.findall(r" T (cu\w+)", subprocess.check_output([nm, "-D", str(folder / "have.so")], text=True)))
    rest = folder / "rest.c"  # what PyCUDA links to and nothing here calls: 801, not supported
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(wanted - have)))
    library = folder / "libcuda.so.1"
    subprocess.run([*build, str(library), str(DRIVER), str(rest), "-Wl,-soname,libcuda.so.1"], check=True)
    (folder / "libcuda.so").symlink_to(library)
    yield {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"}


OUTCOMES = {
    "double": (Status.OK, ""),
    "forgets": (Status.WRONG_RESULT, "expected"),
    "faults": (Status.RUN_FAILED, "an illegal memory access"),
    "greedy": (Status.RUN_FAILED, "too many resources"),
    "outside": (Status.WRONG_RESULT, "wrote outside argument 1"),
    "inputs": (Status.WRONG_RESULT, "changed input 0"),
    "unknown": (Status.RUN_FAILED, "named symbol not found"),
    "alien": (Status.RUN_FAILED, "no kernel image"),
    "hangs": (Status.RUN_TIMEOUT, "no reply within"),
}


def bundle(path: Path, kernels: list[str]) -> Path:
    """The small bundle with these kernels, a right one after each."""
    manifest, blobs = small.content(0)
    [task] = manifest["tasks"]
    for number, name in enumerate(kernel for bad in kernels for kernel in (bad, "double")):
        cubin = b"\x7fELF" + name.encode() + b"\0" + bytes([number])
        blobs[small.digest(cubin)] = cubin
        manifest["items"].append(
            {"task": task["key"], "candidate": f'[{number},[],""]', "proposer": name, "cubin": small.digest(cubin),
             "plan": small.plan(), "build": 1.0, "usage": {}}
        )  # fmt: skip
    write(path, manifest, blobs)
    return path


def measure(folder: Path, environment: dict[str, str], *flags: str) -> tuple[int, str, list[Row]]:
    script = folder / "measure.py"
    script.write_text(MEASURE)
    output = folder / "m.jsonl"
    done = subprocess.run(
        [sys.executable, str(script), "measure", str(folder / "b.tar"), "-o", str(output), *flags],
        cwd=ROOT, env={**environment, "PYTHONPATH": _path(environment)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, read_measurements(output)[1] if output.exists() else []


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_kernel_gets_its_status_and_the_next_one_is_fine(
    name: str, simulated: dict[str, str], tmp_path: Path
) -> None:
    bundle(tmp_path / "b.tar", [name])
    code, said, rows = measure(tmp_path, simulated, "--gpus", "0")
    assert code == 0, said
    screened = [row for row in rows if row.measurement.fidelity is Fidelity.SCREEN]
    assert [row.proposer for row in screened] == [name, "double"]
    status, words = OUTCOMES[name]
    assert screened[0].measurement.status is status, screened[0].measurement.reason
    assert words in screened[0].measurement.reason
    fine = screened[1].measurement
    assert fine.status is Status.OK, fine.reason
    assert fine.median_s == pytest.approx(40e-6, rel=0.02), "what the simulated kernel takes, and nothing of the host"
    assert fine.max_abs_error == 0.0
    assert rows[0].device == "Simulated GPU"


def test_a_fault_is_tried_again_alone_before_it_is_believed(simulated: dict[str, str], tmp_path: Path) -> None:
    bundle(tmp_path / "b.tar", ["double", "faults"])
    _, _, rows = measure(tmp_path, simulated, "--gpus", "0")
    faulty = next(row.measurement for row in rows if row.proposer == "faults")
    assert faulty.status is Status.RUN_FAILED
    assert faulty.conditions.details["tried_again_alone"] == 1


def test_two_gpus_share_a_bundle(simulated: dict[str, str], tmp_path: Path) -> None:
    bundle(tmp_path / "b.tar", ["double"] * 20)
    code, said, rows = measure(tmp_path, simulated)
    assert code == 0, said
    assert "on 2 device(s)" in said
    assert len([row for row in rows if row.measurement.fidelity is Fidelity.SCREEN]) == 40
    assert len({row.key for row in rows}) == len(rows)


def test_a_cubin_for_another_gpu_is_refused_before_anything_runs(simulated: dict[str, str], tmp_path: Path) -> None:
    manifest, blobs = small.content()
    write(tmp_path / "b.tar", {**manifest, "arch": "sm_100a"}, blobs)
    code, said, rows = measure(tmp_path, simulated)
    assert (code, rows) == (2, [])
    assert "GPU 0 is a Simulated GPU (sm_90), and this is for sm_100a" in said


def test_a_gpu_that_is_not_there_is_named(simulated: dict[str, str], tmp_path: Path) -> None:
    small.bundle(tmp_path / "b.tar")
    code, said, _ = measure(tmp_path, simulated, "--gpus", "0,7")
    assert code == 2
    assert "no GPU 7, there are 2" in said


def test_a_driver_without_a_gpu_is_said(simulated: dict[str, str], tmp_path: Path) -> None:
    small.bundle(tmp_path / "b.tar")
    code, said, _ = measure(tmp_path, {**simulated, "SIMULATED_CUDA_ABSENT": "1"})
    assert code == 2
    assert "missing here: a working NVIDIA driver" in said
    assert "no CUDA-capable device" in said


def test_other_inputs_than_the_bundles_are_noticed(simulated: dict[str, str], tmp_path: Path) -> None:
    manifest, blobs = small.content()
    manifest["tasks"][0]["inputs"] = ["0" * 64]
    write(tmp_path / "b.tar", manifest, blobs)
    _, _, rows = measure(tmp_path, simulated, "--gpus", "0")
    assert {row.measurement.status for row in rows} == {Status.RUN_FAILED}
    assert "draws other inputs" in rows[0].measurement.reason
    assert json.loads(rows[0].candidate)


def run_interleaved(
    folder: Path, environment: dict[str, str], *names: str
) -> tuple[list[list[Any]], AaControl | None, bool]:
    """What interleaved timing says of kernels by name, the first one's A/A control, and whether the last one's outputs
    are right."""
    script = folder / "interleaved.py"
    script.write_text(INTERLEAVED)
    command = [sys.executable, str(script), str(folder), *names]
    environment = {**environment, "PYTHONPATH": _path(environment)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    measured, control, right = json.loads(done.stdout)
    return measured, None if control is None else AaControl.from_json(control), right


def test_kernels_are_timed_interleaved(simulated: dict[str, str], tmp_path: Path) -> None:
    measured, control, right = run_interleaved(tmp_path, simulated, "double", "forgets", "double")
    assert [status for status, *_ in measured] == [Status.OK, Status.WRONG_RESULT, Status.OK]
    (_, _, first_s, first_rounds), _, (_, _, second_s, second_rounds) = measured
    assert first_s == pytest.approx(40e-6, rel=0.02)
    assert second_s == pytest.approx(40e-6, rel=0.02)
    assert control is not None
    assert first_rounds == second_rounds == [list(control.rounds)]
    assert right


@pytest.mark.parametrize("name", ["faults", "hangs", "outside"])
def test_one_that_breaks_the_rounds_is_the_only_one_blamed(
    name: str, simulated: dict[str, str], tmp_path: Path
) -> None:
    measured, _, right = run_interleaved(tmp_path, simulated, "double", name, "double")
    assert [status for status, *_ in measured] == [Status.OK, OUTCOMES[name][0], Status.OK]
    assert OUTCOMES[name][1] in measured[1][1]
    assert right
