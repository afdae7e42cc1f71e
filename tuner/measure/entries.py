"""Benchmark entries of whole models: how one is started in a child, and the outputs that it gives."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Array, Stop

TUNED = "tuned"
UNTUNED = "untuned"

EXACT = "float64"
"""The entry that is not timed: the model in float64, by which all others are checked."""

EXACT_WHOLE = "float64_whole"
"""The same of the model as it was before it was quantized, by which accuracy is judged."""

PIPELINE = "tuner.measure.pipeline:PipelineWorker"
"""The service of a model with islands."""

PREPARE_S = 300.0
_LOOK_S = 0.5  # between two looks at whether to stop
_REPLY_S = 10.0
SHOWN = 300  # characters of a child's error that a note repeats


@dataclass
class EntrySpec:
    """How a benchmark entry is started: its name, the service that computes the whole model in a child, the service's
    settings, and the seconds within which it must be ready.

    `precision` is what it computes in, "" where that is what the model says. `whole`: it runs the model as it was
    before it was quantized, so its outputs are others than the tuned model's. `timed`: it is not only there to be
    checked against.
    """

    name: str
    service: str
    settings: Mapping[str, Any]
    prepare_s: float = PREPARE_S
    precision: str = ""
    whole: bool = False
    timed: bool = True


def call(child: Child, stop: Stop, op: str, timeout_s: float, **arguments: Any) -> Any:
    """`Child.call`, and a ChildTimeout soon after `stop()` is true."""
    child.submit(op, **arguments)
    end = time.monotonic() + timeout_s
    while not child.ready(min(max(end - time.monotonic(), 0.0), _LOOK_S)):
        if stop() or time.monotonic() >= end:
            break
    else:
        return child.result(_REPLY_S)
    child.kill()
    raise ChildTimeout("the run was interrupted" if stop() else f"no reply within {timeout_s:.3g} s")


def prepare(
    child: Child, inputs: Path, outputs: Path, timeout_s: float = PREPARE_S, stop: Stop = lambda: False
) -> Mapping[str, Any]:
    """Load the model in its child and write its outputs; its settings in words and the seconds of loading. Raises the
    errors of a child."""
    prepared: Mapping[str, Any] = call(child, stop, "prepare", timeout_s, inputs_npz_path=str(inputs))
    child.call("outputs", timeout_s, path=str(outputs))
    return prepared


def store(arrays: Sequence[Array], path: Path) -> Path:
    """Write arrays to `path` (.npz), in order."""
    with open(path, "wb") as file:
        np.savez(file, *arrays)
    return path


def arrays(path: Path) -> list[Array]:
    """What `store` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in stored.files]


def compiled_entry(name: str, library: Path, threads: int, device: str = "cpu") -> EntrySpec:
    """The entry of a model that this program compiled: its library, or the folder of an export with islands."""
    settings: dict[str, Any] = {"library": str(library), "threads": threads}
    if library.is_dir():
        return EntrySpec(name, PIPELINE, settings)
    return EntrySpec(name, "tuner.measure.compiled_model:CompiledModelWorker", {**settings, "device": device})


def answer_once(spec: EntrySpec, inputs: Sequence[Array], folder: Path, threads: int) -> list[Array] | str:
    """The outputs of an entry, computed in a fresh child; the reason when it fails."""
    try:
        return answer(spec, inputs, folder, threads)
    except (ChildDied, ChildTimeout, ChildError) as error:
        return str(error)


def answers(spec: EntrySpec, samples: Sequence[Sequence[Array]], folder: Path, threads: int) -> list[list[Array]]:
    """The outputs of an entry for each sample of inputs, all in one child. Raises the errors of a child."""
    stored, outputs = folder / "sample-inputs.npz", folder / "sample-outputs.npz"
    given: list[list[Array]] = []
    with Child(spec.service, spec.settings, env=thread_env(threads)) as child:
        for sample in samples:
            prepare(child, store(sample, stored), outputs, spec.prepare_s)
            given.append(arrays(outputs))
    return given


def answer(spec: EntrySpec, inputs: Sequence[Array], folder: Path, threads: int) -> list[Array]:
    """The same, where a failure raises the errors of a child."""
    stored, outputs = store(inputs, folder / "once-inputs.npz"), folder / "once-outputs.npz"
    with Child(spec.service, spec.settings, env=thread_env(threads)) as child:
        prepare(child, stored, outputs, spec.prepare_s)
    return arrays(outputs)
