"""Inputs that a user has: a .npz file, ONNX's test_data_set folders, or a folder of .npz files, as sets of arrays.

Nothing is unpickled. What does not fit the model is refused with the file and the input.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import ConfigError, ModelError
from tuner.importers import npz
from tuner.importers.data_set import KEY, MAX_BYTES, SAVE, DataSet, Wanted
from tuner.models import InputSet
from tuner.protocols import Array
from tuner.schema import did_you_mean

_SET = re.compile(r"test_data_set_(\d+)")


@dataclass(frozen=True)
class Data:
    """All sets of a file or folder, and the SHA-256 of its files' names and contents."""

    path: str
    sha256: str
    sets: tuple[DataSet, ...]


def read(path: str) -> Data:
    """The sets in a file or folder, in the order of their names. Raises ConfigError, naming the file."""
    place = Path(path)
    if place.is_file():
        return Data(path, _digest([place]), (npz.read_set(place),))
    if not place.is_dir():
        raise ConfigError(KEY, f"{path}: no such file or folder", f"a .npz file: {SAVE}; or test_data_set folders")
    numbered = {int(match[1]): p for p in place.iterdir() if (match := _SET.fullmatch(p.name)) and p.is_dir()}
    folders = [numbered[number] for number in sorted(numbered)] or ([place] if any(place.glob("input_*.pb")) else [])
    if folders:
        from tuner.importers.onnx_data import read_set

        files = [file for folder in folders for file in sorted(folder.glob("*.pb"))]
        return Data(path, _digest(files), tuple(read_set(folder) for folder in folders))
    files = sorted(place.glob("*.npz"))
    if not files:
        raise ConfigError(
            KEY, f"{path}: the folder has no test_data_set_0, no input_0.pb and no .npz file", f"a .npz file: {SAVE}"
        )
    return Data(path, _digest(files), tuple(npz.read_set(file) for file in files))


def _digest(files: Sequence[Path]) -> str:
    """Of one file its SHA-256; of several that of their names and contents."""
    digest = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            digest.update(f"{file.parent.name}/{file.name}\0".encode())
        try:
            if file.stat().st_size > MAX_BYTES:
                raise ConfigError(KEY, f"{file}: over {MAX_BYTES >> 30} GiB")
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest() if len(files) > 1 else stream.read())
        except OSError as error:
            raise ConfigError(KEY, f"{file}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


# --- fitting the model ------------------------------------------------------------------------------


def fitted(
    data: Data, wanted: Sequence[Wanted], model_spec: Mapping[str, Any], aliases: Mapping[str, str] | None = None
) -> list[InputSet]:
    """The sets as inputs in the model's order, all of one shape. `aliases` are further names of inputs.

    Where the spec is of one of several shapes, these are the sets of that shape: none, perhaps. Raises ConfigError for
    what the model does not take, and where two sets, or a set and the spec, disagree in shape.
    """
    sets = [InputSet(one.name, _in_order(data, one, wanted, aliases or {}), one.expected) for one in data.sets]
    for one in sets:
        _check_static(data, one, wanted, model_spec)
    contradictions = [_contradiction(one, wanted, model_spec) for one in sets]
    if model_spec["one_of_several"]:
        sets = [one for one, against in zip(sets, contradictions, strict=True) if not against]
    elif against := next((text for text in contradictions if text), ""):
        raise ConfigError(KEY, f"{data.path}: {against}", "leave the shape to the data, or make the two agree")
    for one in sets[1:]:
        for spec, first, other in zip(wanted, sets[0].arrays, one.arrays, strict=True):
            if first.shape != other.shape:
                raise ConfigError(
                    KEY,
                    f"{data.path}: input {spec.name!r} is {list(first.shape)} in {sets[0].name} and"
                    f" {list(other.shape)} in {one.name}",
                    "a run has one shape; for several list them as model.shapes",
                )
    return sets


def _in_order(data: Data, one: DataSet, wanted: Sequence[Wanted], aliases: Mapping[str, str]) -> tuple[Array, ...]:
    where = data.path if len(data.sets) == 1 else f"{data.path}: {one.name}"
    names = [spec.name for spec in wanted]
    known = {*names, *aliases}
    if one.named and not (one.ordered and known.isdisjoint(one.inputs)):
        given = {name if name in names else aliases.get(name, name): array for name, array in one.inputs.items()}
    else:
        given = {names[i] if i < len(names) else f"number {i}": a for i, a in enumerate(one.inputs.values())}
    extra = [name for name in given if name not in names]
    missing = [name for name in names if name not in given]
    takes = f"the model takes {', '.join(names)}"
    if extra:
        raise ConfigError(
            KEY, f"{where}: the model has no input {extra[0]!r}", did_you_mean(extra[0], missing or names) or takes
        )
    if missing:
        raise ConfigError(KEY, f"{where}: input {missing[0]!r} is missing", f"{takes}; there is {', '.join(given)}")
    for spec in wanted:
        _check_dtype(where, spec, given[spec.name])
    return tuple(given[name] for name in names)


def _check_dtype(where: str, spec: Wanted, array: Array) -> None:
    kind = "string" if array.dtype.kind == "U" else str(array.dtype)
    if spec.dtype is not None and kind != spec.dtype:
        raise ConfigError(
            KEY,
            f"{where}: input {spec.name!r} is {kind}, the model takes {spec.dtype}",
            f"store it as such: array.astype({spec.dtype!r})",
        )


def _check_static(data: Data, one: InputSet, wanted: Sequence[Wanted], model_spec: Mapping[str, Any]) -> None:
    """A static extent is the data's, too, unless the spec states another batch or shape."""
    if model_spec["one_of_several"]:
        return
    for spec, array in zip(wanted, one.arrays, strict=True):
        if spec.shape is None or spec.name in model_spec["inputs"]:
            continue
        stated = list(spec.shape)
        if stated and array.shape[:1] == (model_spec["batch"],):
            stated[0] = None
        fits = len(stated) == array.ndim and all(
            not isinstance(extent, int) or extent == found for extent, found in zip(stated, array.shape, strict=True)
        )
        if not fits:
            shown = [extent if extent is not None else "?" for extent in spec.shape]
            raise ConfigError(
                KEY,
                f"{data.path}: input {spec.name!r} is {list(array.shape)} in {one.name}, the model takes {shown}",
                f"to give the model that shape: model.inputs.{spec.name}: {list(array.shape)}",
            )


def _contradiction(one: InputSet, wanted: Sequence[Wanted], model_spec: Mapping[str, Any]) -> str:
    """Where a set and the spec disagree in shape, in words; "" where they do not."""
    symbols: dict[str, int] = dict(model_spec["dims"])
    for spec, array in zip(wanted, one.arrays, strict=True):
        found, stated = list(array.shape), model_spec["inputs"].get(spec.name)
        if stated is not None and list(stated) != found:
            return f"input {spec.name!r} is {found} in {one.name}, and model.inputs says {list(stated)}"
        if spec.shape is None or stated is not None:
            continue
        if len(spec.shape) != len(found):
            return f"input {spec.name!r} is {found} in {one.name}, the model takes {len(spec.shape)} dimensions"
        for axis, (extent, number) in enumerate(zip(spec.shape, found, strict=True)):
            if isinstance(extent, int) and extent != number and (axis or number != model_spec["batch"]):
                return f"input {spec.name!r} is {found} in {one.name}, the model takes {list(spec.shape)}"
            if isinstance(extent, str) and symbols.setdefault(extent, number) != number:
                said = (
                    f", model.dims says {symbols[extent]}"
                    if extent in model_spec["dims"]
                    else f" and {symbols[extent]} elsewhere"
                )
                return f"{extent} is {number} for input {spec.name!r} in {one.name}{said}"
    return ""


def with_shapes(model_spec: Mapping[str, Any], wanted: Sequence[Wanted], sets: Sequence[InputSet]) -> dict[str, Any]:
    """The spec with the shapes of the sets. Raises ModelError where a stated batch is none of theirs."""
    if not sets:
        return dict(model_spec)
    shapes = {spec.name: list(array.shape) for spec, array in zip(wanted, sets[0].arrays, strict=True)}
    batch = model_spec["batch"]
    if batch not in (None, 1) and all(shape[:1] != [batch] for shape in shapes.values()):
        words = f"model.batch is {batch}, but no input in model.data begins with {batch}"
        raise ModelError(model_spec["source"], words, "leave model.batch out: the data tells the shapes")
    return {**model_spec, "inputs": shapes}
