"""The model with the extents that were dynamic before shapes were fixed: for shapes that were not tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import ModelError


def write(model_specs: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write the model of specs that differ in shapes alone as `fallback.onnx` (for ONNX Runtime) or `fallback.pt2` (for
    PyTorch); the file. Raises ModelError where there can be none: random weights are those of one shape."""
    first = model_specs[0]
    if first["weights"] == "random":
        raise ModelError(first["source"], "its weights are random", "model.weights: original")
    if first["kind"] == "torch":
        from tuner.importers.torch_dynamic import save

        save(model_specs, folder / "fallback.pt2")
        return folder / "fallback.pt2"
    from tuner.importers.onnx_file import read

    path = folder / "fallback.onnx"
    path.write_bytes(read(first["source"]).SerializeToString())
    return path
