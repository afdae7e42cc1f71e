"""The compiled library: made from a tiny relax module, run again in a fresh process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.conftest import gpus
from tests.contracts.exporter import ExporterContract
from tuner.errors import OutputError, UserError
from tuner.export import library
from tuner.export.manifest import SIMULATED
from tuner.models import ImportedModel, InputSpec
from tuner.outputs import OutputCheck

SHAPES = ((3, 4), (4, 5), (5,))


@pytest.fixture(scope="module")
def model() -> ImportedModel:
    builder = relax.BlockBuilder()
    x, w, b = (relax.Var(name, relax.TensorType(shape, "float32")) for name, shape in zip("xwb", SHAPES, strict=True))
    with builder.function("main", [x, w, b]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, w))
            total = builder.emit_output(relax.op.add(product, b))
            twice = builder.emit_output(relax.op.add(total, total))
        builder.emit_func_output(relax.Tuple([total, twice]))
    # "file" is a name that numpy.savez cannot take as a keyword
    names = ("file", "a/b", "b")
    specs = tuple(InputSpec(name, shape, "float32") for name, shape in zip(names, SHAPES, strict=True))
    return ImportedModel("tiny <&>", "test", builder.get(), specs, {})


@pytest.fixture(scope="module")
def executable(model: ImportedModel) -> Any:
    return tvm.compile(model.module, "llvm")


@pytest.fixture(scope="module")
def inputs() -> list[Any]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype("float32") for shape in SHAPES]


@pytest.fixture(scope="module")
def expected(inputs: list[Any]) -> list[Any]:
    total = inputs[0] @ inputs[1] + inputs[2]
    return [total, 2 * total]


@pytest.fixture(scope="module")
def exporting(model: ImportedModel, executable: Any) -> Callable[[Path], dict[str, Any]]:
    outputs = [((3, 5), "float32"), ((3, 5), "float32")]
    return lambda run_dir: library.export(executable, run_dir, model, outputs, "llvm", 1, {"tvm": tvm.__version__})


@pytest.fixture(scope="module")
def exported(
    exporting: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    run_dir = tmp_path_factory.mktemp("run")
    return run_dir / "export", exporting(run_dir)


@pytest.fixture
def manifest(exported: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return exported[1]


@pytest.fixture
def export_folder(exported: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[0], tmp_path / "export"))


@pytest.fixture
def check() -> Callable[..., OutputCheck]:
    return lambda folder, inputs, expected, rtol: library.verify(folder, inputs, expected, rtol, 1e-6)


class TestLibrary(ExporterContract):
    """The contract, kept by the compiled library."""


def test_loader_runs_by_itself(export_folder: Path, inputs: list[Any], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, export_folder / library.LOADER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "output (3, 5) float32" in done.stdout
    assert "ms for one call" in done.stdout


def test_loader_itself_refuses_a_changed_library(export_folder: Path) -> None:
    with open(export_folder / library.LIBRARY, "ab") as file:
        file.write(b"x")
    done = subprocess.run([sys.executable, export_folder / library.LOADER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "SHA-256 differs" in done.stderr


@pytest.mark.skipif(gpus() > 0, reason="this machine has a GPU")
def test_loader_for_a_gpu_that_is_not_here_says_so(export_folder: Path, manifest: dict[str, Any]) -> None:
    (export_folder / library.MANIFEST).write_text(json.dumps({**manifest, "device": "cuda"}))
    done = subprocess.run([sys.executable, export_folder / library.LOADER], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "TVM finds no cuda device here, which the model was exported for: llvm\n"


def test_loader_for_the_simulated_gpu_wants_the_tuner(export_folder: Path, manifest: dict[str, Any]) -> None:
    (export_folder / library.MANIFEST).write_text(json.dumps({**manifest, "device": SIMULATED}))
    code = "import runpy, sys; sys.modules['tuner'] = None; runpy.run_path('run_model.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=export_folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "a part of the tuner: run it in that" in done.stderr


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:50],
        lambda content: b"[]",
        lambda content: content.replace(b'"threads"', b'"thread"'),
        lambda content: content.replace(b'"sha256": "', b'"sha256": "0'),
        lambda content: b"[" * 100_000,
    ],
)
def test_loader_itself_refuses_a_damaged_manifest(export_folder: Path, damage: Callable[[bytes], bytes]) -> None:
    path = export_folder / library.MANIFEST
    path.write_bytes(damage(path.read_bytes()))
    done = subprocess.run([sys.executable, export_folder / library.LOADER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_changed_loader_is_not_run(export_folder: Path) -> None:
    marker = export_folder / "was-run"
    (export_folder / library.LOADER).write_text(f"open({str(marker)!r}, 'w')")
    with pytest.raises(UserError, match=r"run_model\.py: changed"):
        library.verify(export_folder, [], [], 0, 0)
    assert not marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"library": "../model.so"},
        {"library": "/etc/passwd"},
        {"library": 3},
        {"schema": 2},
        {"sha256": None},
        {"inputs": {}},
        {"inputs": [{"name": "x", "shape": [1, -1], "dtype": "float32"}]},
        {"outputs": [{"shape": [1], "dtype": "object"}]},
        {"threads": 0},
        {"device": "cpu; rm -rf"},
        {"device": "cpu:0"},
        {"device": "no_such_device"},
        {"versions": [1]},
        {"sha256": "../x"},
    ],
)
def test_broken_manifest_is_refused(export_folder: Path, manifest: dict[str, Any], change: dict[str, Any]) -> None:
    (export_folder / library.MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(UserError, match=r"manifest\.json"):
        library.read_manifest(export_folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_manifest_that_is_none_is_refused(export_folder: Path, content: str) -> None:
    (export_folder / library.MANIFEST).write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        library.read_manifest(export_folder)


def test_missing_library_is_named(export_folder: Path) -> None:
    (export_folder / library.LIBRARY).unlink()
    with pytest.raises(UserError, match=r"model\.so: No such file"):
        library.read_manifest(export_folder)


def test_wrong_inputs_are_an_outcome_not_an_exception(
    export_folder: Path, inputs: list[Any], expected: list[Any]
) -> None:
    result = library.verify(export_folder, [inputs[0].T, *inputs[1:]], expected, 1e-5, 1e-6)
    assert not result.ok
    assert "exit code" in result.reason


def test_hanging_loader_is_ended(export_folder: Path, inputs: list[Any], expected: list[Any]) -> None:
    result = library.verify(export_folder, inputs, expected, 1e-5, 1e-6, timeout_s=0.05)
    assert result == OutputCheck(False, None, None, "no output within 0.05 s")


def test_exporting_again_replaces_and_leaves_nothing_else(
    exporting: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    exporting(tmp_path)
    (tmp_path / "export" / "stray").write_text("of the first export")
    manifest = exporting(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        "manifest.json",
        "model.so",
        "run_model.py",
    ]
    assert library.read_manifest(tmp_path / "export") == manifest


def test_failed_export_keeps_the_earlier_one(
    exporting: Callable[[Path], dict[str, Any]], model: ImportedModel, tmp_path: Path
) -> None:
    manifest = exporting(tmp_path)

    class Unlinkable:
        def export_library(self, path: str) -> None:
            Path(path).write_bytes(b"half")
            raise RuntimeError("Compilation error: no linker")

    with pytest.raises(OutputError, match="no linker"):
        library.export(Unlinkable(), tmp_path, model, [], "llvm", 1, {})
    assert os.listdir(tmp_path) == ["export"]
    assert library.read_manifest(tmp_path / "export") == manifest
