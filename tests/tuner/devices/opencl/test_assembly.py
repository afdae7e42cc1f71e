"""Whole models for OpenCL: planned, exported, run by the loader alone, and refused where they cannot run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.space import generate
from tests.contracts.device import first_of
from tests.tuner.devices.opencl.hand_written import pocl, pocl_target
from tuner.devices.opencl import run_model
from tuner.devices.opencl.assembly import ALIGNMENT, OpenclAssembly
from tuner.devices.opencl.run_model import CannotRun, OpenclModel
from tuner.errors import UserError
from tuner.export.library import export, read_manifest, verify
from tuner.graph import GraphConfig, clean, lower, output_specs
from tuner.importers import load, model_inputs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], list[Any]]:
    """The export of a small model, a tuned kernel in it where one applies; inputs, and PyTorch's outputs."""
    from tuner.importers import torch_module

    pocl()
    target = pocl_target()
    model = load("torch:tests.tuner.graph.test_graph:small", 1, {}, "random", 0)
    graph = lower(clean(model.module), GraphConfig(), target.tvm())
    assembly = OpenclAssembly(target)
    parts: dict[str, Any] = {}
    for task in graph.tasks:
        space = generate(task.workload, target.tvm())
        part = assembly.part(task, space, first_of(space), lambda: None)
        parts |= {} if part is None else {task.key: part}
    assert parts, "no candidate applies"
    folder = tmp_path_factory.mktemp("run")
    export(assembly.assemble(graph, parts), folder, model, output_specs(graph), target.text, 2, {}, "opencl",
           assembly.form)  # fmt: skip
    inputs = model_inputs(model.inputs, model.model_spec, 0)
    module, _ = torch_module(dict(model.model_spec))
    import torch

    with torch.no_grad():
        answer = module(*[torch.from_numpy(np.array(array)) for array in inputs])
    outputs = answer if isinstance(answer, (tuple, list)) else [answer]
    return folder / "export", list(inputs), [np.asarray(output) for output in outputs]


@pytest.fixture
def folder(made: tuple[Path, list[Any], list[Any]], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "export")
    return tmp_path / "export"


def test_the_loader_alone_gives_pytorch_s_outputs(
    folder: Path, made: tuple[Path, list[Any], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCL_CACHE_DIR", str(folder.parent))
    check = verify(folder, made[1], made[2], 1e-4, 1e-5, form=OpenclAssembly.form)
    assert check.ok, check.reason
    assert sorted(p.name for p in folder.iterdir()) == [
        "manifest.json", "model.bin", "model.cl", "model.json", "model.plan", "run_model.c", "run_model.py",
    ]  # fmt: skip
    loaded = [
        line.split()[1] for line in (folder / "run_model.py").read_text().splitlines() if line.startswith("import")
    ]
    assert set(loaded) <= {"hashlib", "json", "os", "sys", "time", "warnings", "numpy"}


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loader in C, linked with the library that pyopencl brings."""
    import pyopencl

    compiler = shutil.which("cc")
    library = next(Path(pyopencl.__file__).parent.glob(".libs/libOpenCL*"), None)
    if compiler is None or library is None:
        pytest.skip("needs a C compiler, and a wheel of pyopencl that brings libOpenCL")
    program = tmp_path_factory.mktemp("c") / "run_model"
    source = Path(run_model.__file__).with_suffix(".c")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-rpath,{library.parent}"]
    subprocess.run([compiler, *flags, "-o", str(program), str(source), str(library)], check=True)
    return program


def test_the_loader_in_c_gives_pytorch_s_outputs(
    folder: Path, made: tuple[Path, list[Any], list[Any]], in_c: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.bin").write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in made[1]))
    import pyopencl

    # The library of pyopencl's wheel looks for its drivers where these say.
    wheel = Path(pyopencl.__file__).parent
    places = {"PYOPENCL_HOME": str(wheel), "LD_LIBRARY_PATH": str(wheel / ".libs")}
    env = {**os.environ, **places, "POCL_CACHE_DIR": str(tmp_path)}

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command, given = [str(in_c), *arguments], {**env, **environment}
        return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=120)

    done = run(str(tmp_path / "in.bin"), str(tmp_path / "out.bin"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("ms for one call (CPU's time)")
    expected = np.concatenate([output.reshape(-1) for output in made[2]])
    np.testing.assert_allclose(np.fromfile(tmp_path / "out.bin", np.float32), expected, rtol=1e-4, atol=1e-5)
    assert "input 0 is too short" in run(str(folder / "manifest.json")).stderr
    assert "there is no OpenCL device 'H100' here" in run(TUNER_OPENCL_DEVICE="H100").stderr
    (folder / "model.plan").write_text("tuner-opencl 1\ndevice x\nneeds 1 2")
    assert "model.plan is damaged: a number is missing" in run().stderr


def test_memory_is_planned(folder: Path) -> None:
    plan = json.loads((folder / "model.json").read_text())
    places = [tuple(place) for call in plan["calls"] for place in call["arguments"] if place[0] == "arena"]
    assert len(set(places)) > 1
    assert all(offset % ALIGNMENT == 0 and offset + nbytes <= plan["arena_bytes"] for _, _, offset, nbytes in places)
    assert sum(nbytes for _, _, _, nbytes in set(places)) > plan["arena_bytes"], "no memory is used twice"


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """What the loader says when it refuses; never a traceback."""
    command = [sys.executable, "-P", str(folder / "run_model.py"), *arguments]
    env = {**os.environ, "POCL_CACHE_DIR": str(folder.parent), **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def edit(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        plan = json.loads((folder / "model.json").read_text())
        (plan["needs"] if key in plan["needs"] else plan)[key] = value
        (folder / "model.json").write_text(json.dumps(plan))

    return change


DAMAGED: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "no plan": (lambda f: (f / "model.json").unlink(), "model.json: missing or damaged"),
    "another plan": (lambda f: (f / "model.json").write_text("{}"), "model.json: missing or damaged (KeyError"),
    "no kernels": (lambda f: (f / "model.cl").unlink(), "model.cl: missing"),
    "other kernels": (lambda f: (f / "model.cl").write_text("x"), "model.cl is not the file of model.json"),
    "other weights": (lambda f: (f / "model.bin").write_bytes(b"x"), "model.bin is not the file of model.json"),
    "another format": (edit("format", 2), "format 2, this program reads 1"),
    "an extension": (edit("extensions", ["cl_khr_fp17"]), "has not the extension cl_khr_fp17, which the model needs"),
    "threads": (edit("threads", 1 << 20), "work items in a group, the model needs 1048576"),
    "local memory": (edit("local_bytes", 1 << 40), "bytes of local memory, the model needs"),
    "one buffer": (edit("arena_bytes", 1 << 60), "bytes in one buffer, the model needs"),
    "alignment": (edit("alignment", 100), "wants buffers aligned to"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_model_is_refused_in_one_sentence(name: str, folder: Path) -> None:
    change, words = DAMAGED[name]
    change(folder)
    with pytest.raises(CannotRun) as caught:
        OpenclModel(folder / "model.json")
    assert words in str(caught.value)


def test_a_changed_plan_is_not_loaded(folder: Path) -> None:
    (folder / "model.json").write_text("{}")
    assert "its SHA-256 differs" in refused(folder)
    (folder / "manifest.json").unlink()
    assert "manifest.json or model.json is missing or damaged" in refused(folder)


def test_wrong_inputs_and_devices_are_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    assert "missing, or no .npz file" in refused(folder, str(tmp_path / "none.npz"))
    with pytest.raises(CannotRun, match="there is no OpenCL device 'H100' here; there are: "):
        OpenclModel(folder / "model.json", "H100")
    model = OpenclModel(folder / "model.json")
    with pytest.raises(CannotRun, match="input 0 must be float32"):
        model.set_inputs([np.zeros((1, 2, 3), np.float32)])
    with pytest.raises(CannotRun, match="the model takes 1 inputs, 0 were given"):
        model.set_inputs([])
    nowhere = dict.fromkeys(("OCL_ICD_VENDORS", "OPENCL_VENDOR_PATH"), str(tmp_path / "none"))
    assert "OpenCL: clGetPlatformIDs failed" in refused(folder, **nowhere)


def test_a_changed_library_is_not_verified(folder: Path) -> None:
    read_manifest(folder)
    (folder / "model.json").write_text("{}")
    with pytest.raises(UserError, match="its SHA-256 is"):
        read_manifest(folder)
