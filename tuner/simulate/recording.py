"""Recorded spaces: every legal configuration of a kernel on a device, with its time there.

A file is gzipped JSON of the format `replay-space/1`: `params` (names and values), `configs` (for each
parameter the value's index in each configuration), `time_ms` (null where it failed). It has the legal
configurations only, those that failed when they were measured included.
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import UserError

FORMAT = "replay-space/1"
_MOST_BYTES = 256 << 20
"""Of JSON: a hundred times the largest recording so far. A small file may unpack to any size."""


@dataclass(frozen=True, eq=False)
class SpaceRecording:
    """The times of one kernel on one device.

    `choices` [n, parameters] int16 says which of its `values` each parameter has in each of the n
    configurations; `seconds` [n] is NaN where a configuration failed, and has at least one number.
    """

    name: str
    kernel: str
    device: str
    parameters: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    choices: NDArray[np.int16] = field(repr=False)
    seconds: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def best_s(self) -> float:
        """The seconds of the fastest configuration."""
        return float(np.nanmin(self.seconds))

    @functools.cached_property
    def row_of(self) -> Mapping[tuple[int, ...], int]:
        """The number of the configuration with these choices."""
        return {tuple(row): number for number, row in enumerate(self.choices.tolist())}


def read(path: Path) -> SpaceRecording:
    """The recording in a file. Raises UserError, which names the file, when it holds none."""
    try:
        with gzip.open(path) as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 20} MiB")
        data = json.loads(text)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a recorded space: {error}", _HINT) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path}: `format` is not {FORMAT!r}", _HINT)
    try:
        return _recording(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"no `{error.args[0]}`" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {reason}", _HINT) from error


_HINT = f"give a .json.gz file of the format {FORMAT}, or a folder of them"


def _recording(data: Mapping[str, Any]) -> SpaceRecording:
    values = tuple(tuple(p["values"]) for p in data["params"])
    choices = np.array(data["configs"], dtype=np.int16).T.copy()
    seconds = np.array([np.nan if t is None else float(t) / 1e3 for t in data["time_ms"]], dtype=np.float64)
    if choices.shape != (len(seconds), len(values)):
        raise ValueError(f"{len(seconds)} times of {len(values)} parameters, but `configs` of shape {choices.shape}")
    if not all(c.min() >= 0 and c.max() < len(v) for c, v in zip(choices.T, values, strict=True)):
        raise ValueError("`configs` has an index that is none of the parameter's values")
    if not np.isfinite(seconds).any() or np.nanmin(seconds) <= 0:
        raise ValueError("`time_ms` has no positive number")
    if len({tuple(row) for row in choices.tolist()}) != len(choices):
        raise ValueError("`configs` has the same configuration twice")
    names = tuple(str(p["name"]) for p in data["params"])
    return SpaceRecording(str(data["name"]), str(data["kernel"]), str(data["device"]), names, values, choices, seconds)


def find(paths: list[Path]) -> list[Path]:
    """The files among `paths`, and those in the folders among them. Raises UserError for a folder without any."""
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.json.gz")) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no recorded space in this folder", _HINT)
        files += inside
    return files
