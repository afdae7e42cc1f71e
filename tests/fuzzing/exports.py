"""An export: whole samples of its files, and how the program opens them."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from tests.fuzzing.base import Files


@functools.cache
def export_files() -> Files:
    from tuner.export import library
    from tuner.export.loader import LOADER_TEXT

    content = bytes(range(256)) * 4
    spec = {"name": "data/<x>", "shape": [1, 3, 8, 8], "dtype": "float32"}
    manifest = {
        "schema": library.SCHEMA, "model": "small", "library": library.LIBRARY,
        "sha256": hashlib.sha256(content).hexdigest(), "function": "main", "inputs": [spec], "outputs": [spec],
        "target": '{"kind":"llvm"}', "device": "cpu", "threads": 2, "versions": {"apache-tvm": "0.27.0"},
    }  # fmt: skip
    return {
        library.LIBRARY: content,
        library.MANIFEST: json.dumps(manifest, indent=1).encode(),
        library.LOADER: LOADER_TEXT.encode(),
    }


def open_export(folder: Path, name: str) -> None:
    from tuner.export import library

    if (folder / library.LOADER).read_bytes() != export_files()[library.LOADER]:
        library.verify(folder, [], [], 0, 0)
        raise AssertionError("a changed loader was run")
    manifest = library.read_manifest(folder)
    assert (folder / library.LIBRARY).read_bytes() == export_files()[library.LIBRARY]
    for spec in (*manifest["inputs"], *manifest["outputs"]):
        np.empty(0, spec["dtype"]).reshape((0, *spec["shape"]))
