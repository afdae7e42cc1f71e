"""Whether an exported function does what the original does: random and special values, guards taken and not taken."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuner.baselines.original import SCALARS, given_number, opened, types_of
from tuner.protocols import Array

_MOST_ELEMENTS = 1 << 28
"""Of all arrays of one call."""

_SLOW_S = 0.5
"""An original that takes longer is called less often."""

_MOST_PAIRS = 6
"""Of arrays that overlap."""

_RTOL = {"float32": 2e-5, "float64": 1e-12}
"""Of the largest value of an output, for each square root of the length of a sum: what another order may differ by."""


class EquivalenceWorker:
    """A child's service. `library` and `original` are shared libraries with the function that `c` describes; `exact`:
    every bit must be the same. `name`: what it is called in `library`, where that is not its own name."""

    def __init__(self, c: Mapping[str, Any], library: str, original: str, exact: bool, name: str = "") -> None:
        self._c, self._exact, self._slow = c, exact, False
        own = c["function"]
        self._functions = [self._function(Path(library), name or own), self._function(Path(original), own)]

    def _function(self, library: Path, name: str) -> Any:
        function = opened(library, name)
        function.argtypes = types_of(self._c)
        function.restype = SCALARS.get(self._c["result"])
        return function

    def op_check(self, seed: int) -> dict[str, Any]:
        """Call both in every way; returns {"cases": how many, "different": the first one that differs, or ""}."""
        cases = 0
        for words, sizes, arrays in self._cases(seed):
            cases += 1
            tuned = self._called(self._functions[0], sizes, arrays)
            began = time.perf_counter()
            results = [tuned, self._called(self._functions[1], sizes, arrays)]
            self._slow |= time.perf_counter() - began > _SLOW_S
            why = self._difference(results[0], results[1])
            if why:
                return {"cases": cases, "different": f"{words}: {why}"}
        return {"cases": cases, "different": ""}

    # --- what they are called with

    def _cases(self, seed: int) -> Iterator[tuple[str, Mapping[str, int], dict[int, Array]]]:
        sizes = dict(self._c["sizes"])
        rng = np.random.default_rng(seed)
        for trial in range(3):
            if not (trial and self._slow):
                yield f"random values {trial}", sizes, self._arrays(rng, sizes)
        read = {t["position"] for t in self._c["inputs"]}
        yield "zeros", sizes, {p: np.zeros_like(a) if p in read else a for p, a in self._arrays(rng, sizes).items()}
        yield "values of very different sizes", sizes, self._spread(rng, sizes)
        if not set(self._c["patterns"]) & {"reduction", "softmax", "pooling"}:
            yield "infinities and NaNs", sizes, self._special(rng, sizes)
        yield "arrays that are not aligned", sizes, {p: _moved(a) for p, a in self._arrays(rng, sizes).items()}
        if sizes:
            yield "all sizes 0", dict.fromkeys(sizes, 0), self._arrays(rng, sizes)
        for number, other in enumerate(self._c.get("others", ())):
            about_as_large = any(2 * size > sizes[name] for name, size in other["sizes"].items())
            if number and self._slow and about_as_large:
                continue
            if sum(count for _, count in other["elements"]) <= _MOST_ELEMENTS:
                words = ", ".join(f"{name} {number}" for name, number in other["sizes"].items())
                yield f"sizes {words}", other["sizes"], self._arrays(rng, sizes, dict(other["elements"]))
        yield from self._aliased(rng, sizes)

    def _shapes(self) -> dict[int, tuple[tuple[int, ...], str]]:
        tensors = [t for t in [*self._c["inputs"], *self._c["outputs"]] if t["position"] >= 0]
        return {t["position"]: (tuple(t["shape"]), t["dtype"]) for t in tensors}

    def _arrays(
        self, rng: np.random.Generator, sizes: Mapping[str, int], elements: Mapping[int, int] | None = None
    ) -> dict[int, Array]:
        """What written arrays hold before is random, too: what is not written must stay. `elements`: how many each has
        at other sizes than those of the model."""
        found: dict[int, Array] = {}
        for position, (shape, dtype) in self._shapes().items():
            if elements is not None and position in elements:
                shape = (elements[position],)
            found[position] = _aligned(self._drawn(rng, shape, dtype))
        return found

    def _drawn(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        if dtype.startswith("float"):
            return rng.standard_normal(shape).astype(dtype)
        return rng.integers(-8, 8, shape).astype(dtype)

    def _spread(self, rng: np.random.Generator, sizes: Mapping[str, int]) -> dict[int, Array]:
        arrays = self._arrays(rng, sizes)
        for array in arrays.values():
            if array.dtype.kind == "f":
                array *= (10.0 ** rng.integers(-6, 6, array.shape)).astype(array.dtype)
        return arrays

    def _special(self, rng: np.random.Generator, sizes: Mapping[str, int]) -> dict[int, Array]:
        arrays = self._arrays(rng, sizes)
        for array in arrays.values():
            if array.dtype.kind == "f" and array.size:
                flat = array.reshape(-1)
                places = rng.choice(array.size, min(array.size, 6), replace=False)
                flat[places] = np.resize(np.array([np.inf, np.nan, -0.0, 0.0, np.inf, 1.0], array.dtype), len(places))
        return arrays

    def _aliased(
        self, rng: np.random.Generator, sizes: Mapping[str, int]
    ) -> Iterator[tuple[str, Mapping[str, int], dict[int, Array]]]:
        """A written array that overlaps another one."""
        shapes = self._shapes()
        written = {t["position"] for t in self._c["outputs"]}
        pointers = {number for number, argument in enumerate(self._c["arguments"]) if argument["type"] == "ptr"}
        pairs = [
            pair for pair in itertools.combinations(sorted(pointers & shapes.keys()), 2)
            if set(pair) & written and shapes[pair[0]][1] == shapes[pair[1]][1]
        ]  # fmt: skip
        for a, b in [way for pair in pairs[:_MOST_PAIRS] for way in (pair, pair[::-1])]:
            if self._slow and b not in written:
                continue
            arrays = self._arrays(rng, sizes)
            apart = min(16, arrays[a].size // 2)
            both = _aligned(self._drawn(rng, (max(arrays[a].size, arrays[b].size) + apart,), arrays[a].dtype.name))
            arrays[a] = both[: arrays[a].size]
            arrays[b] = both[apart : apart + arrays[b].size]
            yield f"argument {b} begins {apart} elements within argument {a}", sizes, arrays

    # --- calling and comparing

    def _called(self, function: Any, sizes: Mapping[str, int], arrays: Mapping[int, Array]) -> list[Array]:
        copies = _copied(arrays)
        shapes = self._shapes()
        values: list[Any] = []
        for position, argument in enumerate(self._c["arguments"]):
            if argument["name"] in self._c["sizes"]:
                values.append(given_number(argument, sizes[argument["name"]]))
            elif argument["type"] != "ptr":
                values.append(copies[position].reshape(-1)[0].item() if position in shapes else 0)
            else:
                values.append(copies[position].ctypes.data if position in copies else None)
        result = function(*values)
        found = [copies[position] for position in sorted(copies)]
        return [*found, *([np.array([result])] if result is not None else [])]

    def _difference(self, tuned: Sequence[Array], original: Sequence[Array]) -> str:
        for number, (a, b) in enumerate(zip(tuned, original, strict=True)):
            if a.tobytes() == b.tobytes():
                continue
            if self._exact or a.dtype.kind != "f":
                return f"array {number} is not the same"
            finite = np.isfinite(b)
            if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
                return f"array {number} has infinities or NaNs elsewhere"
            largest = float(np.max(np.abs(b[finite]), initial=0.0))
            error = float(np.max(np.abs(a[finite].astype(np.float64) - b[finite]), initial=0.0))
            terms = max((int(np.prod(s, dtype=np.int64)) for s, _ in self._shapes().values()), default=1)
            if error > _RTOL[a.dtype.name if a.dtype.name in _RTOL else "float64"] * largest * max(terms, 1) ** 0.25:
                return f"array {number} is off by {error:.3g} (largest value {largest:.3g})"
        return ""


def _aligned(array: Array) -> Array:
    """The same values at an address that is a multiple of 64."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    found = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def _moved(array: Array) -> Array:
    """The same values at an address that is none."""
    room = np.empty(array.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + array.dtype.itemsize
    found = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def _copied(arrays: Mapping[int, Array]) -> dict[int, Array]:
    """Copies that lie to each other as the arrays do: those of one memory stay in one, at the same alignment."""
    owners: dict[int, Array] = {}
    found = {}
    for position, array in arrays.items():
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if id(owner) not in owners:
            room = np.empty(owner.nbytes + 64, np.uint8)
            start = (owner.ctypes.data - room.ctypes.data) % 64
            copy = room[start : start + owner.nbytes]
            copy[...] = owner.reshape(-1).view(np.uint8)
            owners[id(owner)] = copy
        offset = array.ctypes.data - owner.ctypes.data
        found[position] = owners[id(owner)][offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    return found
