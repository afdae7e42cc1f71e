"""One set of a model's inputs as a user stored it, and an input as the model states it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.protocols import Array

KEY = "model.data"

MAX_BYTES = 2**32
"""Of one file and of all arrays in it."""

SAVE = "numpy.savez(file, NAME=array, ...) writes one, names being those of the model's inputs"
"""How to make a .npz file, in words."""

Extents = Sequence[int | str | None]
"""A shape as a model states it: a number, the name of a symbol, or None."""


@dataclass(frozen=True)
class Wanted:
    """An input as the model states it. `dtype` None: any."""

    name: str
    dtype: str | None
    shape: Extents | None


@dataclass(frozen=True)
class DataSet:
    """One set as stored: arrays by name, or in order with the names "0", "1", ... where `named` is false. `ordered`:
    the order counts where the names are none of the model's."""

    name: str
    inputs: Mapping[str, Array]
    named: bool
    ordered: bool = False
    expected: tuple[Array, ...] | None = None
