"""Run an exported OpenCL model: python run_model.py [inputs.npz [outputs.npz]]; random inputs without a file.

Needs numpy and pyopencl. The environment variable TUNER_OPENCL_DEVICE chooses a device by a part of its name; without
it the model runs on the one that it was tuned for where that is here, else on the first.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
"""Of the plan: models of another format are refused."""


class CannotRun(Exception):
    """Why a model does not run here, in words."""


class OpenclModel:
    """A model with its memory on a device, every launch ready. `path` is its plan, `model.json`; the kernels and the
    weights lie beside it. Raises CannotRun.
    """

    def __init__(self, path: Path, device: str = "") -> None:
        try:
            import pyopencl as cl
        except ImportError as error:
            raise CannotRun(f"{error}: running the model needs the packages numpy and pyopencl") from error
        self._cl = cl
        self._plan = _read_plan(path)
        source, weights = (_read_part(path, self._plan, part) for part in ("kernels", "weights"))
        self.inputs: list[dict[str, Any]] = self._plan["inputs"]
        self._results: list[dict[str, Any]] = self._plan["outputs"]
        try:
            self._device = self._choose(device)
            self._context = cl.Context([self._device])
            self._queue = cl.CommandQueue(self._context)
            self._check_device(len(weights))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pyopencl, about compilers that say something
                program = cl.Program(self._context, source.decode()).build()
            self._memory = self._allocate(weights)
            self._launches = [self._ready(program, call) for call in self._plan["calls"]]
        except cl.Error as error:
            raise CannotRun(f"OpenCL: {str(error).strip()[:400]}") from error

    @property
    def device(self) -> str:
        """The device's name."""
        return f"{self._device.platform.name.strip()} / {self._device.name.strip()}"

    @property
    def is_cpu(self) -> bool:
        """Whether the device is a CPU, whose times say nothing of a GPU."""
        return bool(self._device.type & self._cl.device_type.CPU)

    @property
    def held_bytes(self) -> int:
        """Of device memory, arguments and weights included."""
        return sum(buffer.size for buffers in self._memory.values() for buffer in buffers)

    @property
    def launches(self) -> int:
        """Of one inference."""
        return len(self._launches)

    def set_inputs(self, arrays: list[Any]) -> None:
        """Copy inputs to the device: dense arrays of the model's shapes and dtypes, in its order. Raises CannotRun."""
        if len(arrays) != len(self.inputs):
            raise CannotRun(f"the model takes {len(self.inputs)} inputs, {len(arrays)} were given")
        for number, (array, spec) in enumerate(zip(arrays, self.inputs, strict=True)):
            given = np.ascontiguousarray(array)
            if list(given.shape) != list(spec["shape"]) or str(given.dtype) != spec["dtype"]:
                wanted = f"{spec['dtype']} {tuple(spec['shape'])}"
                raise CannotRun(f"input {number} must be {wanted}, not {given.dtype} {given.shape}")
            if given.nbytes:
                self._cl.enqueue_copy(self._queue, self._memory["input"][number], given)

    def run(self) -> None:
        """One inference; returns when it has ended. Raises CannotRun."""
        enqueue, queue = self._cl.enqueue_nd_range_kernel, self._queue
        try:
            for kernel, size, local in self._launches:
                enqueue(queue, kernel, size, local)
            queue.finish()
        except self._cl.Error as error:
            raise CannotRun(f"OpenCL: {str(error).strip()[:400]}") from error

    def outputs(self) -> list[Any]:
        """The outputs of the last inference."""
        arrays = [np.empty(spec["shape"], spec["dtype"]) for spec in self._results]
        for array, buffer in zip(arrays, self._memory["output"], strict=True):
            if array.nbytes:
                self._cl.enqueue_copy(self._queue, array, buffer)
        return arrays

    def _choose(self, wanted: str) -> Any:
        found = []
        for platform in self._cl.get_platforms():
            try:
                found += platform.get_devices()
            except self._cl.Error:  # a platform without devices
                continue
        names = [f"{device.platform.name.strip()} / {device.name.strip()}" for device in found]
        if not found:
            raise CannotRun("there is no OpenCL device here")
        if wanted:
            chosen = [device for device, name in zip(found, names, strict=True) if wanted.lower() in name.lower()]
            if not chosen:
                raise CannotRun(f"there is no OpenCL device {wanted!r} here; there are: {'; '.join(names)}")
            return chosen[0]
        tuned_for = self._plan["device"]
        return found[names.index(tuned_for)] if tuned_for in names else found[0]

    def _check_device(self, weights: int) -> None:
        device, name = self._device, self._device.name.strip()
        needs = self._plan["needs"]
        lacking = sorted(set(needs["extensions"]) - set(device.extensions.split()))
        if lacking:
            raise CannotRun(f"{name} has not the extension {lacking[0]}, which the model needs")
        for what, least, has in (
            ("work items in a group", needs["threads"], device.max_work_group_size),
            ("bytes of local memory", needs["local_bytes"], device.local_mem_size),
            ("bytes in one buffer", max(weights, self._plan["arena_bytes"]), device.max_mem_alloc_size),
        ):
            if least > has:
                raise CannotRun(f"{name} allows {has} {what}, the model needs {least}")
        if self._plan["alignment"] % max(1, device.mem_base_addr_align // 8):
            raise CannotRun(f"{name} wants buffers aligned to {device.mem_base_addr_align // 8} bytes")

    def _allocate(self, weights: bytes) -> dict[str, list[Any]]:
        cl, context = self._cl, self._context

        def empty(nbytes: int) -> Any:
            return cl.Buffer(context, cl.mem_flags.READ_WRITE, max(nbytes, 1))

        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        content = np.frombuffer(weights or b"\0", np.uint8)
        return {
            "constant": [cl.Buffer(context, flags, hostbuf=content)],
            "arena": [empty(self._plan["arena_bytes"])],
            "workspace": [empty(nbytes) for nbytes in self._plan["workspaces"]],
            "input": [empty(_nbytes(spec)) for spec in self.inputs],
            "output": [empty(_nbytes(spec)) for spec in self._results],
        }

    def _ready(self, program: Any, call: dict[str, Any]) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
        """A launch with its arguments set: [kind, number, offset, bytes] of each."""
        kernel = self._cl.Kernel(program, call["kernel"])
        arguments = []
        for kind, number, offset, nbytes in call["arguments"]:
            buffer = self._memory[kind][number]
            whole = offset == 0 and nbytes >= buffer.size
            arguments.append(buffer if whole else buffer.get_sub_region(offset, max(nbytes, 1)))
        kernel.set_args(*arguments)
        return kernel, tuple(call["global"]), tuple(call["local"])


def _nbytes(spec: dict[str, Any]) -> int:
    return int(np.prod(spec["shape"], dtype=np.int64)) * int(np.dtype(spec["dtype"]).itemsize)


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if plan["format"] != FORMAT:
            raise ValueError(f"format {plan['format']}, this program reads {FORMAT}")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CannotRun(f"{path}: missing or damaged ({type(error).__name__}: {error})") from error
    return plan


def _read_part(path: Path, plan: dict[str, Any], part: str) -> bytes:
    """A file beside the plan, by the suffix and the SHA-256 that the plan states."""
    file = path.with_suffix({"kernels": ".cl", "weights": ".bin"}[part])
    try:
        content, wanted = file.read_bytes(), plan[part]
    except (OSError, LookupError) as error:
        raise CannotRun(f"{file}: missing ({error})") from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise CannotRun(f"{file} is not the file of {path.name} (its SHA-256 differs): not loaded")
    return content


def _given(path: str, specs: list[dict[str, Any]]) -> list[Any]:
    """Inputs from a .npz file: by name, or in order where they were saved without names. Raises CannotRun."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, TypeError) as error:
        raise CannotRun(f"{path}: missing, or no .npz file of numbers (numpy.savez writes one)") from error
    given = []
    for index, spec in enumerate(specs):
        array = arrays.get(spec.get("name", ""), arrays.get(f"arr_{index}"))
        if array is None or array.dtype.kind not in "biuf" or list(array.shape) != list(spec["shape"]):
            found = "nothing" if array is None else f"{array.dtype} {array.shape}"
            wanted = f"{spec['dtype']} {tuple(spec['shape'])}"
            raise CannotRun(f"{path}: the input {spec.get('name', index)} must be {wanted}, there is {found}")
        given.append(np.asarray(array, spec["dtype"]))
    return given


def _drawn(specs: list[dict[str, Any]]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        np.asarray(
            rng.standard_normal(spec["shape"])
            if np.issubdtype(np.dtype(spec["dtype"]), np.floating)
            else rng.integers(0, 2, spec["shape"]),
            spec["dtype"],
        )
        for spec in specs
    ]


def _exported(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The plan of the export in a folder, which must be the one of its manifest, and the inputs with their names."""
    plan = folder / "model.json"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        expected, inputs = manifest["sha256"], list(manifest["inputs"])
        digest = hashlib.sha256(plan.read_bytes()).hexdigest()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CannotRun(f"{folder}: manifest.json or model.json is missing or damaged ({what})") from error
    if digest != expected:
        raise CannotRun(f"{plan} is not the library of manifest.json (its SHA-256 differs): not loaded")
    return plan, inputs


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: list[str]) -> None:
    """What the file does as a program. Raises CannotRun."""
    path, specs = _exported(Path(__file__).resolve().parent)
    model = OpenclModel(path, os.environ.get("TUNER_OPENCL_DEVICE", ""))
    _say(f"device {model.device}")
    model.set_inputs(_given(arguments[0], specs) if arguments else _drawn(specs))
    model.run()  # the first call sets things up
    start = time.perf_counter()
    model.run()
    seconds = time.perf_counter() - start
    outputs = model.outputs()
    for output in outputs:
        _say(f"output {output.shape} {output.dtype}")
    whose = " (CPU's time)" if model.is_cpu else ""
    _say(f"{seconds * 1e3:.3g} ms for one call{whose}")
    if len(arguments) > 1:
        try:
            with open(arguments[1], "wb") as file:
                np.savez(file, *outputs)
        except OSError as error:
            raise CannotRun(f"{arguments[1]}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except CannotRun as error:
        sys.exit(str(error))
