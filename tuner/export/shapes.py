"""The export of a model that was tuned for several shapes: one export a shape, and what chooses among them.

manifest.json lists the shapes; run_model.py takes the export whose inputs have the given shapes, and for others the
model beside it, by ONNX Runtime or PyTorch, where there is one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import OutputError, UserError
from tuner.export.library import LOADER, MANIFEST, read_manifest
from tuner.files import sync

SCHEMA = 1
KIND = "shapes"

LOADER_TEXT = '''\
"""Run the exported model: python run_model.py [inputs.npz [outputs.npz]].

The shapes of the inputs choose the library; other shapes are run by the model beside it, where there is one. Without a
file every library is run on random inputs.
"""

import hashlib, json, subprocess, sys
from pathlib import Path

folder = Path(__file__).resolve().parent
try:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    shapes = [(str(s["folder"]), s["inputs"]) for s in manifest["shapes"]]
    fallback = manifest["fallback"]
    listed = "; ".join(f"{name}: " + ", ".join(f"{i['name']} {list(i['shape'])}" for i in i_s) for name, i_s in shapes)
except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
    sys.exit(f"{folder}: manifest.json is missing or damaged ({type(error).__name__}: {error})")


def run(name):
    """The export of one shape in a process of its own; its exit code."""
    loader = folder / name / "run_model.py"
    if loader.parent.parent != folder or not loader.is_file():
        sys.exit(f"{loader} is missing: the export is incomplete")
    return subprocess.run([sys.executable, "-P", str(loader), *sys.argv[1:]]).returncode


if len(sys.argv) < 2:
    codes = [print(f"{name}:", flush=True) or run(name) for name, _ in shapes]
    sys.exit(max(codes))

try:
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: running the model needs the package numpy")
try:
    given = dict(np.load(sys.argv[1], allow_pickle=False))
except (OSError, ValueError, TypeError) as error:
    sys.exit(f"{sys.argv[1]}: missing, or no .npz file of numbers (numpy.savez writes one)")


def taken(inputs):
    """The arrays of these inputs, by name, or in order when saved without names; None for one that is missing."""
    return [given.get(spec["name"], given.get(f"arr_{index}")) for index, spec in enumerate(inputs)]


for name, inputs in shapes:
    if all(a is not None and list(a.shape) == list(i["shape"]) for a, i in zip(taken(inputs), inputs)):
        sys.exit(run(name))
found = ", ".join(f"{name} {list(array.shape)}" for name, array in given.items())
if fallback is None:
    sys.exit(f"{sys.argv[1]}: {found}: no library has these shapes, and there is no other model. There are {listed}")
model = folder / str(fallback["file"])
if model.parent != folder or hashlib.sha256(model.read_bytes()).hexdigest() != fallback["sha256"]:
    sys.exit(f"{model} is not the model of manifest.json (its SHA-256 differs): not loaded")
inputs = shapes[0][1]
arrays = taken(inputs)
missing = [spec["name"] for spec, array in zip(inputs, arrays) if array is None]
if missing:
    sys.exit(f"{sys.argv[1]}: the input {missing[0]} is missing, there is {found}")
arrays = [np.asarray(array, spec["dtype"]) for spec, array in zip(inputs, arrays)]
try:
    if model.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        outputs = session.run(None, {spec["name"]: array for spec, array in zip(inputs, arrays)})
    else:
        import torch

        program = torch.export.load(model).module()
        with torch.inference_mode():
            result = program(*map(torch.from_numpy, arrays))
        outputs = [r.numpy() for r in torch.utils._pytree.tree_leaves(result) if isinstance(r, torch.Tensor)]
except ImportError as error:
    sys.exit(f"{found}: no library has these shapes ({error}, which would run others). There are {listed}")
except Exception as error:
    reason = f"{model.name} fails on them: {str(error)[:300]}"
    sys.exit(f"{found}: no library has these shapes, and {reason}. There are {listed}")
print(f"not tuned for {found}: run by {model.name}")
for output in outputs:
    print("output", output.shape, output.dtype)
if len(sys.argv) > 2:
    try:
        np.savez(sys.argv[2], *outputs)
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: cannot be written: {error.strerror}")
'''


def export(folder: Path, exports: Mapping[str, Path], fallback: Path | None) -> None:
    """Write the folder: the exports of several shapes, by the shapes' names, and the model for others, which is moved.

    Raises UserError for an export that was changed since, and OutputError.
    """
    manifests = {name: read_manifest(path) for name, path in exports.items()}
    try:
        folder.mkdir(parents=True)
        for name, path in exports.items():
            shutil.copytree(path, folder / name)
        stated = None
        if fallback is not None:
            beside = Path(shutil.move(fallback, folder / fallback.name))
            stated = {"file": beside.name, "sha256": hashlib.sha256(beside.read_bytes()).hexdigest()}
        data = {
            "schema": SCHEMA,
            "kind": KIND,
            "shapes": [{"folder": name, "inputs": found["inputs"]} for name, found in manifests.items()],
            "fallback": stated,
        }
        (folder / MANIFEST).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        (folder / LOADER).write_text(LOADER_TEXT, encoding="utf-8")
        for path in folder.rglob("*"):
            if path.is_file():
                sync(path)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def exports_of(folder: Path) -> dict[str, Path]:
    """The exports in an export of several shapes, by the shapes' names; of another one, itself under the name "".

    Raises UserError for a manifest that is damaged.
    """
    path = folder / MANIFEST
    try:
        data: Any = json.loads(path.read_bytes())
        if not isinstance(data, dict) or data.get("kind") != KIND:
            return {"": folder}
        names = [shape["folder"] for shape in data["shapes"]]
        if not all(isinstance(name, str) and (folder / name).parent == folder for name in names):
            raise ValueError("a folder that is no part of it")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "export the run again") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a manifest of several shapes: {error}", "export the run again") from error
    return {name: folder / name for name in names}
