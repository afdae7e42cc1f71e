"""What every exporter must do. A test module subclasses the suite and gives it the fixtures named below."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.errors import UserError


class ExporterContract:
    """Fixtures: `export_folder` (a fresh copy of one export), `manifest` (what exporting returned),
    `inputs` and `expected` (arrays of that model), `check` (folder, inputs, expected, rtol -> OutputCheck).
    """

    def test_manifest_describes_the_folder(
        self, export_folder: Path, manifest: dict[str, Any], inputs: list[Any], expected: list[Any]
    ) -> None:
        on_disk = json.loads((export_folder / "manifest.json").read_text())
        assert on_disk == manifest
        library = (export_folder / manifest["library"]).read_bytes()
        assert manifest["sha256"] == hashlib.sha256(library).hexdigest()
        described = [(tuple(spec["shape"]), spec["dtype"]) for spec in manifest["inputs"]]
        assert described == [(array.shape, str(array.dtype)) for array in inputs]
        described = [(tuple(spec["shape"]), spec["dtype"]) for spec in manifest["outputs"]]
        assert described == [(array.shape, str(array.dtype)) for array in expected]
        assert {"schema", "target", "threads", "versions", "function"} <= manifest.keys()

    def test_runs_in_a_fresh_process(
        self, export_folder: Path, inputs: list[Any], expected: list[Any], check: Callable[..., Any]
    ) -> None:
        result = check(export_folder, inputs, expected, 1e-5)
        assert result.ok, result.reason
        assert 0.0 <= result.max_rel_error < 1e-5

    def test_wrong_outputs_are_noticed(
        self, export_folder: Path, inputs: list[Any], expected: list[Any], check: Callable[..., Any]
    ) -> None:
        other = [array + np.array(0.01, array.dtype) for array in expected]
        result = check(export_folder, inputs, other, 1e-5)
        assert not result.ok
        assert result.max_abs_error == pytest.approx(0.01, rel=0.05)

    def test_a_changed_library_is_refused(
        self,
        export_folder: Path,
        manifest: dict[str, Any],
        inputs: list[Any],
        expected: list[Any],
        check: Callable[..., Any],
    ) -> None:
        library = export_folder / manifest["library"]
        content = bytearray(library.read_bytes())
        content[len(content) // 2] ^= 1
        library.write_bytes(bytes(content))
        with pytest.raises(UserError, match=re.escape(str(library))):
            check(export_folder, inputs, expected, 1e-5)
