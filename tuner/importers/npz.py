"""Sets of inputs in .npz files. Nothing is unpickled, and nothing is unpacked that is larger than it says."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tuner.errors import ConfigError
from tuner.importers.data_set import KEY, MAX_BYTES, SAVE, DataSet
from tuner.protocols import Array

_UNNAMED = re.compile(r"arr_\d+")


def read_set(file: Path) -> DataSet:
    """The arrays of a file by name, or in order where it has none. Raises ConfigError, naming the file."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > MAX_BYTES:
                raise ConfigError(KEY, f"{file}: its arrays have over {MAX_BYTES >> 30} GiB")
            arrays = {info.filename.removesuffix(".npy"): _array(file, archive, info) for info in members}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError) as error:
        raise ConfigError(KEY, f"{file}: damaged, or no .npz file ({type(error).__name__}: {error})", SAVE) from error
    if not arrays:
        raise ConfigError(KEY, f"{file}: there is no array in it", SAVE)
    named = not all(_UNNAMED.fullmatch(name) for name in arrays)
    if not named:
        ordered = sorted(arrays, key=lambda name: int(name[4:]))
        arrays = {str(index): arrays[name] for index, name in enumerate(ordered)}
    return DataSet(file.name, arrays, named)


def _array(file: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One member. Raises ConfigError for what holds no numbers, ValueError for what is damaged."""
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise ConfigError(KEY, f"{file}: {name!r} holds Python objects, which are not unpickled", SAVE)
    if dtype.kind not in "biufU" and dtype.str != "|V2":
        raise ConfigError(KEY, f"{file}: {name!r} holds {dtype}, no numbers or texts", SAVE)
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{name!r} is shorter than its header says")
    with archive.open(info) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    if dtype.kind == "V":  # how numpy stores bfloat16, which it does not know: models are given it as float32
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16).astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
