"""A tuned model as a folder that runs anywhere TVM's runtime does: model.so, manifest.json, run_model.py.

The manifest holds the library's SHA-256; neither the loader nor this module loads a library that
differs from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import ConfigError, OutputError, UserError
from tuner.export import pipeline
from tuner.export.loader import LOADER_TEXT
from tuner.export.manifest import SCHEMA as SCHEMA
from tuner.export.manifest import ManifestOfParts, stated_in
from tuner.files import replace_folder, sync
from tuner.models import ImportedModel, InputSpec
from tuner.outputs import OutputCheck, check_outputs

if TYPE_CHECKING:
    from tuner.protocols import Array

FOLDER = "export"
LIBRARY = "model.so"
MANIFEST = "manifest.json"
LOADER = "run_model.py"


@dataclass(frozen=True)
class Form:
    """What an exported folder is made of: the name of the library that the manifest has the SHA-256 of, and the loaders
    beside it by name, the one in Python among them as LOADER."""

    library: str = LIBRARY
    loaders: Mapping[str, str] = field(default_factory=lambda: {LOADER: LOADER_TEXT})


NATIVE = Form()
"""A shared library that TVM's runtime loads."""


def export(
    executable: Any,
    run_dir: Path,
    model: ImportedModel,
    outputs: Sequence[tuple[Sequence[int], str]],
    target: str,
    threads: int,
    versions: Mapping[str, str],
    device: str = "cpu",
    form: Form = NATIVE,
    times: str = "",
) -> dict[str, Any]:
    """Write `run_dir/export/`, whole or not at all, in place of an earlier one; returns the manifest.

    `executable` is what `tvm.compile` made of a relax module with a function `main`, or something else with
    `export_library(path)` and the name of its `function`; `outputs` are the shapes and dtypes of what it returns;
    `device` is the name of the TVM device it runs on; `form` says what the library and its loaders are, and `times`
    what times on that device are where they are not its own. Raises OutputError, e.g. without a C++ compiler to link
    with.
    """

    def fill(folder: Path) -> dict[str, Any]:
        executable.export_library(str(folder / form.library))
        for name, text in form.loaders.items():
            (folder / name).write_text(text, encoding="utf-8")
        return {
            "function": getattr(executable, "function", "main"),
            "outputs": [{"shape": [int(extent) for extent in shape], "dtype": dtype} for shape, dtype in outputs],
        }

    return _export(run_dir, fill, model, target, threads, versions, device, form, times)


def export_parts(
    executables: Sequence[Any],
    specs: Sequence[tuple[pipeline.Specs, pipeline.Specs]],
    run_dir: Path,
    model: ImportedModel,
    target: str,
    threads: int,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """`export` of a model with a plan: `executables` are those of its tuned parts, and `specs` the shapes and dtypes of
    what each takes and returns. The manifest's `library` is the first of them, and `segments` has all parts in order.
    """
    plan = model.plan
    assert plan is not None

    def fill(folder: Path) -> dict[str, Any]:
        segments = pipeline.write_parts(plan, executables, specs, folder, LIBRARY)
        (folder / LOADER).write_text(pipeline.LOADER_TEXT, encoding="utf-8")
        return {
            "function": next(segment["function"] for segment in segments if segment["kind"] == "tuned"),
            "outputs": [pipeline.output_of(spec) for spec in plan.outputs],
            "segments": [{**segment, "sha256": _sha256(folder / segment["file"])} for segment in segments],
        }

    return _export(run_dir, fill, model, target, threads, versions, "cpu", NATIVE)


def _export(
    run_dir: Path, fill: Callable[[Path], dict[str, Any]], model: ImportedModel, target: str, threads: int,
    versions: Mapping[str, str], device: str, form: Form, times: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Replace the export by a folder that `fill` has filled; it returns what only it knows of the manifest."""
    aside = run_dir / f".{FOLDER}.{os.getpid()}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        filled = fill(aside)
        manifest = {
            "schema": SCHEMA,
            "model": model.name,
            "library": form.library,
            "sha256": _sha256(aside / form.library),
            "inputs": [_input(spec) for spec in model.inputs],
            "uses": dict(model.model_spec.get("uses", {})),
            "target": target,
            "device": device,
            "threads": threads,
            "versions": dict(versions),
            **({"times": times} if times else {}),
            **filled,
        }
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        for path in aside.iterdir():
            sync(path)
        sync(aside)
        replace_folder(aside, run_dir / FOLDER)
    except OSError as error:
        raise OutputError(f"{run_dir / FOLDER} cannot be written: {error.strerror or error}") from error
    except RuntimeError as error:  # how TVM reports that the linker is missing or failed
        raise OutputError(
            f"{run_dir / FOLDER}: the library cannot be linked: {_reason(error)}",
            "exporting needs a C++ compiler (g++ or clang++) on the PATH, and room on the disk",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def _reason(error: RuntimeError) -> str:
    """The linker's message, without the command that follows it."""
    message = str(error).strip().partition("\nCommand line:")[0].strip()
    return message[-300:] if message else type(error).__name__


def _input(spec: InputSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": [int(extent) for extent in spec.shape], "dtype": spec.dtype}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- reading it back ------------------------------------------------------------------------------


def read_manifest(export_dir: Path) -> dict[str, Any]:
    """The manifest of an export whose library, and whose other parts, are those that were exported with it.

    Raises UserError, naming the file, when one of them is missing, broken, or changed since.
    """
    path = export_dir / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        stated = stated_in(manifest)
        files: dict[str, str] = {stated.library: stated.sha256}
        if isinstance(stated, ManifestOfParts):
            files.update((segment.file, segment.sha256) for segment in stated.segments)
        digests = {name: _sha256(_regular(export_dir / name)) for name in files}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}", "export the run again") from error
    except (ValueError, RecursionError, ConfigError) as error:
        raise UserError(f"{path}: not a manifest of schema {SCHEMA}: {error}", "export the run again") from error
    for name, digest in digests.items():
        if digest != files[name]:
            raise UserError(
                f"{export_dir / name}: its SHA-256 is {digest}, the manifest says {files[name]}: not loaded",
                "the file was changed after it was exported; export the run again",
            )
    return dict(manifest)


def _regular(path: Path) -> Path:
    if path.is_symlink():
        raise ValueError(f"{path.name} is a link")
    return path


def verify(
    export_dir: Path,
    inputs: Sequence[Array],
    expected: Sequence[Array],
    rtol: float,
    atol: float,
    timeout_s: float = 120.0,
    form: Form = NATIVE,
) -> OutputCheck:
    """Run the exported loader in a fresh process and compare its outputs by `check_outputs`.

    `inputs` are in the manifest's order. A loader that crashes, hangs or computes something else gives an
    OutputCheck that is not ok; a changed library is never loaded and raises UserError.
    """
    read_manifest(export_dir)
    if not _is_unchanged(export_dir / LOADER, form):
        raise UserError(f"{export_dir / LOADER}: changed after it was exported, or missing: not run", "export it again")
    with tempfile.TemporaryDirectory(prefix="tuner-export-") as scratch:
        given, got = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        np.savez(given, *inputs)
        # -P: nothing that lies in the export folder can take the place of numpy or tvm
        command = [sys.executable, "-P", str(export_dir / LOADER), str(given), str(got)]
        try:
            ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, text=True)
        except subprocess.TimeoutExpired:
            return OutputCheck(False, None, None, f"no output within {timeout_s:.3g} s")
        if ended.returncode != 0 or not got.exists():
            return OutputCheck(False, None, None, f"exit code {ended.returncode}: {ended.stderr.strip()[-300:]}")
        with np.load(got, allow_pickle=False) as outputs:
            return check_outputs([outputs[f"arr_{index}"] for index in range(len(outputs.files))], expected, rtol, atol)


def _is_unchanged(loader: Path, form: Form) -> bool:
    try:
        return loader.read_bytes() in (form.loaders[LOADER].encode(), pipeline.LOADER_TEXT.encode())
    except OSError:
        return False
