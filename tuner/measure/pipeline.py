"""A model with islands: its tuned parts in TVM's runtime and the others in ONNX Runtime, one after the other.

Values between the parts are in memory that both runtimes see, where a tuned part reads or writes them: nothing is
copied on the way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnxruntime

from tuner.measure.compiled_model import Loaded
from tuner.measure.model_service import ModelWorker
from tuner.measure.onnx_values import flat_arrays, takes_numbers, timed_session_options
from tuner.process.pinning import pin_workers

if TYPE_CHECKING:
    from tuner.protocols import Array

_LEAST_INFERENCES = 5


class PipelineWorker(ModelWorker):
    """The model worker of an exported model with islands. `library` is its folder, whose files are what its manifest
    says; every part runs with `threads` threads."""

    def __init__(self, library: str, threads: int) -> None:
        super().__init__()
        self._folder, self._threads = Path(library), threads
        self._pipeline: Pipeline | None = None

    def op_prepare(self, inputs_npz_path: str) -> dict[str, Any]:
        """Load the parts and call them on the stored inputs; returns {"settings": in words, "load_s": seconds until the
        first call has ended, without the import of TVM and ONNX Runtime}."""
        import tvm  # noqa: F401 - so that loading does not import it
        from tvm import relax  # noqa: F401

        with np.load(inputs_npz_path, allow_pickle=False) as stored:
            inputs = [stored[name] for name in stored.files]
        began = time.perf_counter()
        pipeline = Pipeline(self._folder, inputs, self._threads)
        pipeline.launch(1)
        load_s = time.perf_counter() - began
        pin_workers(lambda: pipeline.launch(1), self._threads)
        self._prepared = self._pipeline = pipeline
        return {"settings": f"{pipeline.runtimes}, {self._threads} threads", "load_s": load_s}

    def op_segments(self, seconds: float) -> list[float]:
        """The seconds of each part in one inference: means over inferences made for about `seconds`. Raises
        InfrastructureError before `prepare`."""
        self._ready()
        assert self._pipeline is not None
        return self._pipeline.segment_seconds(seconds)


class _Part(Protocol):
    def run(self) -> None:
        """Compute what the part gives to others."""


class Pipeline:
    """A model with islands and its inputs. Implements `protocols.Prepared`. `runtimes` says what the parts run in."""

    def __init__(self, folder: Path, inputs: Sequence[Array], threads: int) -> None:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        names = [spec["name"] for spec in manifest["inputs"]]
        self._outputs = [spec["name"] for spec in manifest["outputs"]]
        self._values: dict[str, Any] = dict(zip(names, inputs, strict=True))
        tuned = [segment for segment in manifest["segments"] if segment["kind"] == "tuned"]
        self._tensors: dict[str, Any] = {}
        for spec in (spec for segment in tuned for spec in (*segment["inputs"], *segment["outputs"])):
            self._tensors.setdefault(spec["name"], self._tensor(spec))
        self._shared = {name: np.from_dlpack(tensor) for name, tensor in self._tensors.items()}
        self._parts = [self._part(folder, segment, threads) for segment in manifest["segments"]]
        islands = sum(not isinstance(part, _Tuned) for part in self._parts)
        compiled = dict.fromkeys(part.runtime for part in self._parts if isinstance(part, _Tuned))
        self.runtimes = (
            f"{len(tuned)} tuned part{'s' * (len(tuned) != 1)} ({', '.join(compiled)}), {islands} "
            f"island{'s' * (islands != 1)} in ONNX Runtime {onnxruntime.__version__}"
        )

    def launch(self, count: int) -> None:
        for _ in range(count):
            for part in self._parts:
                part.run()

    def outputs(self) -> list[Array]:
        """Sequences and maps are given item by item, and texts as numpy's fixed-width strings."""
        found = {**self._values, **self._shared}
        made = (found[name] for name in self._outputs)
        values = [value.numpy() if isinstance(value, onnxruntime.OrtValue) else value for value in made]
        return [np.array(array) for value in values for array in flat_arrays(value)]

    def segment_seconds(self, seconds: float) -> list[float]:
        """See `PipelineWorker.op_segments`."""
        spent, inferences = [0.0] * len(self._parts), 0
        deadline = time.perf_counter() + seconds
        while inferences < _LEAST_INFERENCES or time.perf_counter() < deadline:
            for number, part in enumerate(self._parts):
                began = time.perf_counter()
                part.run()
                spent[number] += time.perf_counter() - began
            inferences += 1
        return [total / inferences for total in spent]

    def _tensor(self, spec: Mapping[str, Any]) -> Any:
        """Memory for a value: of an input its own, of anything else zeros for now."""
        import tvm

        given = self._values.get(spec["name"])
        zeros = np.zeros(spec["shape"], spec["dtype"])
        return tvm.runtime.tensor(zeros if given is None else np.asarray(given, spec["dtype"]))

    def _part(self, folder: Path, segment: Mapping[str, Any], threads: int) -> _Part:
        path = folder / segment["file"]
        if segment["kind"] == "island":
            session = _session(path, threads)
            kind = _Island if takes_numbers(session) else _FedIsland
            return kind(session, self._shared, self._values)
        inputs, outputs = ([self._tensors[s["name"]] for s in segment[key]] for key in ("inputs", "outputs"))
        return _Tuned(path, inputs, outputs)


class _Tuned:
    """A library that reads and writes these tensors."""

    def __init__(self, path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._loaded = Loaded(str(path), inputs, outputs=outputs)
        self._outputs = outputs
        self.runtime = self._loaded.runtime

    def run(self) -> None:
        self._loaded.launch(1)
        for mine, made in zip(self._outputs, self._loaded.results, strict=True):
            if made is not mine:  # TVM's virtual machine makes new ones
                mine.copyfrom(made)


class _Island:
    """A session of ONNX Runtime whose operands and results are tensors of numbers. What it reads and writes of `shared`
    it does in place; other values are taken from `values`, and put there."""

    def __init__(self, session: Any, shared: Mapping[str, Array], values: dict[str, Any]) -> None:
        self._session, self._values = session, values
        self._binding = session.io_binding()
        read, made = ([value.name for value in given] for given in (session.get_inputs(), session.get_outputs()))
        self._read, self._made = ([n for n in names if n not in shared] for names in (read, made))
        for name in shared.keys() & set(read):
            self._binding.bind_ortvalue_input(name, _as_value(shared[name]))
        self._in_place = [name for name in made if name in shared]
        for name in self._in_place:
            self._binding.bind_ortvalue_output(name, _as_value(shared[name]))

    def run(self) -> None:
        for name in self._read:
            self._binding.bind_ortvalue_input(name, _as_value(self._values[name]))
        for name in self._made:  # again each time: else the runtime would keep the shape of the last time
            self._binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(self._binding)
        made = self._binding.get_outputs()[len(self._in_place) :]  # in the order in which they were bound first
        self._values.update(zip(self._made, made, strict=True))


class _FedIsland:
    """The same for texts, sequences and maps, which cannot be bound."""

    def __init__(self, session: Any, shared: Mapping[str, Array], values: dict[str, Any]) -> None:
        self._session, self._shared, self._values = session, shared, values
        self._read = [value.name for value in session.get_inputs()]
        self._made = [value.name for value in session.get_outputs()]

    def run(self) -> None:
        given = {n: self._shared[n] if n in self._shared else self._values[n] for n in self._read}
        for name, made in zip(self._made, self._session.run(self._made, given), strict=True):
            if name in self._shared:
                np.copyto(self._shared[name], made)
            else:
                self._values[name] = made


def _as_value(value: Any) -> Any:
    return value if isinstance(value, onnxruntime.OrtValue) else onnxruntime.OrtValue.ortvalue_from_numpy(value)


def _session(path: Path, threads: int) -> Any:
    """With all optimizations. Its threads sleep as soon as they have nothing to do: others wait for their CPUs."""
    options = timed_session_options(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
