"""A tuned model with islands as a folder: the libraries of its tuned parts, the ONNX models of the others, and what
runs them one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.models import ModelPlan, OutputSpec

Specs = Sequence[tuple[Sequence[int], str]]
"""Shapes and dtypes."""

LOADER_TEXT = '''\
"""Run the exported model: python run_model.py [inputs.npz [outputs.npz]]; random inputs without a file.

Some of its parts run in TVM; others, which manifest.json calls islands, in ONNX Runtime.
"""

import hashlib, json, os, sys, time
from pathlib import Path

folder = Path(__file__).resolve().parent
try:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    inputs, outputs, segments = (manifest[key] for key in ("inputs", "outputs", "segments"))
    threads = int(manifest["threads"])
    for segment in segments:
        content = (folder / Path(segment["file"]).name).read_bytes()
        if hashlib.sha256(content).hexdigest() != segment["sha256"]:
            sys.exit(f"{segment['file']} is not the file of manifest.json (its SHA-256 differs): not loaded")
except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
    sys.exit(f"{folder}: manifest.json or a part is missing or damaged ({type(error).__name__}: {error})")
os.environ.setdefault("TVM_NUM_THREADS", str(threads))  # read when tvm is imported
os.environ.setdefault("TVM_BIND_THREADS", "0")  # pinned workers can end up on the caller's core

need = "running the model needs the packages numpy, apache-tvm and onnxruntime"
try:
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: {need}")

rng = np.random.default_rng(0)
try:
    given = dict(np.load(sys.argv[1], allow_pickle=False)) if len(sys.argv) > 1 else None
except (OSError, ValueError, TypeError) as error:
    sys.exit(f"{sys.argv[1]}: missing, or no .npz file of numbers and texts (numpy.savez writes one)")
values = {}  # of inputs, and of what ONNX Runtime makes
for index, spec in enumerate(inputs):
    shape, text = tuple(spec["shape"]), spec["dtype"] == "string"
    if given is not None:  # by name, or in order when saved without names
        array = given.get(spec["name"], given.get(f"arr_{index}"))
        if array is None or array.dtype.kind not in ("U" if text else "biuf") or array.shape != shape:
            found = "nothing" if array is None else f"{array.dtype} {array.shape}"
            sys.exit(f"{sys.argv[1]}: the input {spec['name']} must be {spec['dtype']} {shape}, there is {found}")
    elif text:
        array = np.full(shape, "text")
    elif np.issubdtype(np.dtype(spec["dtype"]), np.floating):
        array = rng.standard_normal(shape)
    else:
        array = rng.integers(0, 2, shape)
    values[spec["name"]] = array if text else np.asarray(array, spec["dtype"])

try:
    import onnxruntime
    import tvm
    from tvm import relax
except ImportError as error:
    sys.exit(f"{error}: {need}")

tensors = {}  # what tuned parts read and write, and the same memory as numpy sees it
for spec in [spec for segment in segments for spec in segment.get("inputs", []) + segment.get("outputs", [])]:
    start = values.get(spec["name"], np.zeros(spec["shape"], spec["dtype"]))
    tensors.setdefault(spec["name"], tvm.runtime.tensor(start))
values.update((name, np.from_dlpack(tensor)) for name, tensor in tensors.items())


def tuned(segment):
    module = tvm.runtime.load_module(str(folder / Path(segment["file"]).name))
    reads, writes = ([tensors[spec["name"]] for spec in segment[key]] for key in ("inputs", "outputs"))
    if segment["function"] == "tuner_run":  # writes to tensors that it is given
        return lambda: module["tuner_run"](*reads, *writes)
    call = relax.VirtualMachine(module, tvm.cpu())[segment["function"]]

    def run():
        made = call(*reads)
        for tensor, result in zip(writes, [made] if hasattr(made, "numpy") else made):
            tensor.copyfrom(result)

    return run


def island(segment):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads leave the CPUs to TVM's
    file = str(folder / Path(segment["file"]).name)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    reads, writes = [v.name for v in session.get_inputs()], [v.name for v in session.get_outputs()]

    def run():
        for name, made in zip(writes, session.run(writes, {name: values[name] for name in reads})):
            if name in tensors:
                values[name][...] = made
            else:
                values[name] = made

    return run


parts = [tuned(segment) if segment["kind"] == "tuned" else island(segment) for segment in segments]


def infer():
    for part in parts:
        part()


def flat(value):
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in flat(item)]
    if isinstance(value, dict):
        return [np.array(list(value)), np.array(list(value.values()))]
    array = np.asarray(value)
    return [array.astype(str) if array.dtype == object else array]


infer()  # the first call sets things up
start = time.perf_counter()
infer()
seconds = time.perf_counter() - start
results = [array for spec in outputs for array in flat(values[spec["name"]])]
for result in results:
    print("output", result.shape, result.dtype)
print(f"{seconds * 1e3:.3g} ms for one call")
if len(sys.argv) > 2:
    try:
        np.savez(sys.argv[2], *results)
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: cannot be written: {error.strerror}")
'''


def write_parts(
    plan: ModelPlan, executables: Sequence[Any], specs: Sequence[tuple[Specs, Specs]], folder: Path, first: str
) -> list[dict[str, Any]]:
    """Write the files of all parts to `folder`; the segments of the manifest, without digests.

    `executables` and `specs` (of what it takes and returns) are those of the tuned parts in order. The library of the
    first of them is named `first`. Raises OSError and RuntimeError as `export_library` does.
    """
    libraries = iter(zip(executables, specs, strict=True))
    segments: list[dict[str, Any]] = []
    for number, segment in enumerate(plan.segments):
        if segment.island is not None:
            file = f"island_{number}.onnx"
            (folder / file).write_bytes(segment.island)
            segments.append({"kind": "island", "file": file, "nodes": list(map(str, segment.nodes))})
            continue
        executable, (inputs, outputs) = next(libraries)
        file = f"model_{number}.so" if any(s["kind"] == "tuned" for s in segments) else first
        executable.export_library(str(folder / file))
        segments.append({
            "kind": "tuned", "file": file, "function": getattr(executable, "function", "main"),
            "inputs": _named(segment.inputs, inputs), "outputs": _named(segment.outputs, outputs),
        })  # fmt: skip
    return segments


def output_of(spec: OutputSpec) -> dict[str, Any]:
    """An output of the whole model, as the manifest has it: None for what only a run tells."""
    return {"name": spec.name, "shape": None if spec.shape is None else list(spec.shape), "dtype": spec.dtype}


def _named(names: Sequence[str], specs: Specs) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": [int(extent) for extent in shape], "dtype": dtype}
        for name, (shape, dtype) in zip(names, specs, strict=True)
    ]
