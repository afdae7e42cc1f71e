"""Samples to judge a model's accuracy by: a .npz file with many calls' inputs, and what is right for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.errors import ConfigError
from tuner.importers.npz import read_set
from tuner.models import InputSpec
from tuner.protocols import Array

KEY = "accuracy.data"
LABELS = "labels"
OUTPUT = "output_"


@dataclass(frozen=True)
class Samples:
    """`inputs` by sample, each in the order of the model's inputs. `labels`: one for each row of what the model gives,
    or None; `outputs` by sample, in order, or none."""

    name: str
    inputs: tuple[tuple[Array, ...], ...]
    labels: Array | None = None
    outputs: tuple[tuple[Array, ...], ...] = ()


def read_samples(path: str, specs: Sequence[InputSpec]) -> Samples:
    """The samples of a file: an array for each input by its name, one sample after the other along a new first axis (or
    along the first axis of an input whose own first extent divides it); `labels`; and `output_0`, `output_1`, ... by
    sample. Raises ConfigError, naming the file and the array."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(KEY, f"{path}: no such file", "a .npz file with an array for each input")
    try:
        arrays = dict(read_set(file).inputs)
    except ConfigError as error:
        raise ConfigError(KEY, error.message.partition(": ")[2], error.hint) from error
    by_input = [_split(file, spec, arrays) for spec in specs]
    counts = {len(parts) for parts in by_input}
    if len(counts) != 1 or 0 in counts:
        told = ", ".join(f"{spec.name}: {len(parts)}" for spec, parts in zip(specs, by_input, strict=True))
        raise ConfigError(KEY, f"{file.name}: not the same number of samples for each input ({told})")
    [count] = counts
    labels = arrays.pop(LABELS, None)
    if labels is not None and (labels.dtype.kind not in "iu" or labels.size == 0 or labels.size % count):
        raise ConfigError(KEY, f"{file.name}: `labels` must be integers, as many for each of the {count} samples")
    outputs = _outputs(file, arrays, count)
    known = {spec.name for spec in specs}
    if unknown := sorted(arrays.keys() - known - {f"{OUTPUT}{index}" for index in range(len(arrays))}):
        hint = f"there may be: {', '.join([*sorted(known), LABELS, f'{OUTPUT}0'])}"
        raise ConfigError(KEY, f"{file.name}: {unknown[0]!r} is neither an input nor known", hint)
    inputs = tuple(zip(*by_input, strict=True))
    return Samples(file.name, inputs, labels, outputs)


def _split(file: Path, spec: InputSpec, arrays: dict[str, Array]) -> list[Array]:
    """The samples of an input."""
    array = arrays.get(spec.name)
    shape = "x".join(map(str, spec.shape)) or "a number"
    if array is None:
        raise ConfigError(KEY, f"{file.name}: no array {spec.name!r}", f"an array of samples of {shape}, {spec.dtype}")
    if array.shape[1:] == spec.shape and array.ndim == len(spec.shape) + 1:
        parts = array
    elif spec.shape and array.shape[1:] == spec.shape[1:] and spec.shape[0] and array.shape[0] % spec.shape[0] == 0:
        parts = array.reshape(-1, *spec.shape)
    else:
        given = "x".join(map(str, array.shape))
        raise ConfigError(KEY, f"{file.name}: {spec.name!r} is {given}, which are no samples of {shape}")
    if array.dtype.kind not in ("fiu" if spec.dtype.startswith("float") else np.dtype(spec.dtype).kind):
        raise ConfigError(KEY, f"{file.name}: {spec.name!r} is {array.dtype}, and the model takes {spec.dtype}")
    return [np.ascontiguousarray(part, spec.dtype) for part in parts]


def _outputs(file: Path, arrays: dict[str, Array], count: int) -> tuple[tuple[Array, ...], ...]:
    found: list[Array] = []
    while (array := arrays.get(f"{OUTPUT}{len(found)}")) is not None:
        if not array.ndim or len(array) != count:
            raise ConfigError(KEY, f"{file.name}: '{OUTPUT}{len(found)}' must begin with an axis of {count} samples")
        found.append(array)
    return tuple(zip(*found, strict=True)) if found else ()
