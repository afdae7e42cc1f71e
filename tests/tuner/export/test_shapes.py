"""The export of several shapes: the loader takes the library of the given shapes, or the model for others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper
from tvm import relax

from tuner.errors import UserError
from tuner.export import library, shapes
from tuner.models import ImportedModel, InputSpec
from tuner.protocols import Array


def _exported(folder: Path, rows: int) -> Path:
    """A model that doubles a matrix of so many rows."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((rows, 3), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.add(x, x)))
    model = ImportedModel("double", "test", builder.get(), (InputSpec("x", (rows, 3), "float32"),), {})
    library.export(tvm.compile(model.module, "llvm"), folder, model, [((rows, 3), "float32")], "llvm", 1, {})
    return folder / "export"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export for 2 and 4 rows; any other number is tripled by the model beside it, so that it is told apart."""
    folder = tmp_path_factory.mktemp("several")
    graph = helper.make_graph(
        [helper.make_node("Sum", ["x", "x", "x"], ["y"])], "triple",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "fallback.onnx"
    )
    parts = {f"x-{rows}x3": _exported(folder / str(rows), rows) for rows in (2, 4)}
    shapes.export(folder / "export", parts, folder / "fallback.onnx")
    return folder / "export"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "export"))


def _run(folder: Path, array: Array | None, scratch: Path) -> tuple[subprocess.CompletedProcess[str], Array | None]:
    command = [sys.executable, str(folder / library.LOADER)]
    if array is not None:
        np.savez(scratch / "in.npz", x=array)
        command += [str(scratch / "in.npz"), str(scratch / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if not (scratch / "out.npz").exists():
        return done, None
    with np.load(scratch / "out.npz") as stored:
        return done, stored["arr_0"]


@pytest.mark.parametrize(("rows", "factor"), [(4, 2), (5, 3)])
def test_the_shapes_choose(made: Path, tmp_path: Path, rows: int, factor: int) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)
    done, out = _run(made, x, tmp_path)
    assert done.returncode == 0, done.stderr
    assert out is not None
    np.testing.assert_allclose(out, factor * x, rtol=1e-6)
    assert ("not tuned for x [5, 3]: run by fallback.onnx" in done.stdout) == (rows == 5)


def test_without_inputs_every_library_is_run(made: Path, tmp_path: Path) -> None:
    done, _ = _run(made, None, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("x-2x3:") < done.stdout.index("output (2, 3)") < done.stdout.index("x-4x3:")


def test_other_shapes_without_a_model_beside_are_an_error_that_lists_those_there_are(
    folder: Path, tmp_path: Path
) -> None:
    manifest = json.loads((folder / library.MANIFEST).read_text())
    (folder / library.MANIFEST).write_text(json.dumps({**manifest, "fallback": None}))
    done, out = _run(folder, np.ones((5, 3), np.float32), tmp_path)
    assert out is None
    assert done.returncode == 1
    assert "x [5, 3]: no library has these shapes, and there is no other model" in done.stderr
    assert "There are x-2x3: x [2, 3]; x-4x3: x [4, 3]" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_changed_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    with open(folder / "fallback.onnx", "ab") as file:
        file.write(b"x")
    with open(folder / "x-2x3" / library.LIBRARY, "ab") as file:
        file.write(b"x")
    for rows in (2, 5):
        done, out = _run(folder, np.ones((rows, 3), np.float32), tmp_path)
        assert out is None
        assert "SHA-256 differs" in done.stderr
    with pytest.raises(UserError, match="SHA-256"):
        shapes.export(tmp_path / "again", {"x-2x3": folder / "x-2x3"}, None)


def test_its_parts_are_found_and_damage_is_named(folder: Path) -> None:
    assert shapes.exports_of(folder) == {"x-2x3": folder / "x-2x3", "x-4x3": folder / "x-4x3"}
    assert shapes.exports_of(folder / "x-2x3") == {"": folder / "x-2x3"}
    manifest = json.loads((folder / library.MANIFEST).read_text())
    for wrong in ("{", json.dumps({**manifest, "shapes": [{"folder": "../other", "inputs": []}]})):
        (folder / library.MANIFEST).write_text(wrong)
        with pytest.raises(UserError, match="not a manifest of several shapes"):
            shapes.exports_of(folder)
