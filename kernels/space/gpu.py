"""The resources a GPU sketch uses, as formulas of its decisions: threads, virtual threads, shared memory. Plain data.

TVM's VerifyGPUCode checks the target's limits only after lowering (10 to 100 ms a candidate). These formulas take
microseconds, so that legal candidates can be solved for (see `gpu_solve`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from kernels.space.decision import Decision, as_factors

MAX_VTHREAD = 8
MAX_VECTOR_BYTES = 16
"""The limits of TVM's VerifyGPUCode; 16 bytes is also the widest access of a CUDA thread."""

_INDEX_BYTES = 4

MAX_ACCUMULATORS = 256
"""A thread has 255 registers: a larger register tile can only spill."""

STATIC_SHARED = 48 * 1024
"""Bytes that a kernel may declare statically; more must be dynamic (CUDA programming guide, compute capabilities)."""


@dataclass(frozen=True)
class IndexTerm:
    """`coefficient * (v // divisor % modulus)` of an index, v being the loop that knob `knob` cuts; modulus 0 is none.

    A `knob` of ~k stands for that tile factor of knob k which is bound to threads, alone.
    """

    knob: int
    coefficient: int = 1
    divisor: int = 1
    modulus: int = 0

    def steps(self, tile: int) -> int:
        """An upper bound on the number of values of `v // divisor % modulus` while v runs over an aligned tile."""
        if self.divisor == 1:
            count = tile
        elif tile % self.divisor == 0:
            count = tile // self.divisor
        elif self.divisor % tile == 0:
            count = 1
        else:
            count = (tile + self.divisor - 2) // self.divisor + 1
        return min(count, self.modulus) if self.modulus else count


@dataclass(frozen=True)
class Dimension:
    """One dimension of a staged buffer: `base` elements and the sum of its terms, never more than `limit`."""

    limit: int
    base: int
    terms: tuple[IndexTerm, ...] = ()

    def extent(self, tiles: Mapping[int, int]) -> int:
        """Elements that lie in the tile, given the extent of each knob's loop inside of it."""
        span = sum(term.coefficient * (term.steps(tiles[term.knob]) - 1) for term in self.terms)
        return min(self.limit, self.base + span)


@dataclass(frozen=True)
class Staged:
    """A buffer staged in shared memory: `copies` of a tile, with the rows padded as TVM's StorageAlign does.

    `align` is StorageAlign's (factor, offset). `vector` is the position of the knob that picks one of `widths`, the
    elements a thread copies at once; -1 where there is none. `is_output` marks a staging area for results, which is in
    use only when those for operands are not any more. Where the source is not `contiguous` along the tile's rows, a
    vector of indices of 4 bytes each is loaded.
    """

    itemsize: int
    dimensions: tuple[Dimension, ...]
    copies: int = 1
    align: tuple[int, int] = (0, 0)
    vector: int = -1
    widths: tuple[int, ...] = ()
    is_output: bool = False
    contiguous: bool = True

    def nbytes(self, tiles: Mapping[int, int]) -> int:
        """Bytes of shared memory, given the extent of each knob's loop inside the tile."""
        extents = [dimension.extent(tiles) for dimension in self.dimensions]
        factor, offset = self.align
        if factor:
            extents[-1] += (offset - extents[-1]) % factor
        return math.prod(extents) * self.itemsize * self.copies

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "dimensions"}
        return {**plain, "dimensions": [[d.limit, d.base, list(map(astuple, d.terms))] for d in self.dimensions]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Staged:
        dimensions = tuple(
            Dimension(limit, base, tuple(IndexTerm(*term) for term in terms))
            for limit, base, terms in data["dimensions"]
        )
        return Staged(**{**{name: _tuple(value) for name, value in data.items()}, "dimensions": dimensions})


@dataclass(frozen=True)
class GpuModel:
    """The limits and formulas of one tiled sketch.

    Each of the `spatial` and `reduce` knobs cuts a loop into tile factors. `thread_level` and `vthread_level` say which
    factor of a spatial tile is bound to threads and which to virtual threads (-1: none). A tile in shared memory spans
    the factors from `tile_level` on (from 1 on for reductions). One "thread" of a tensor-core sketch is a warp, which
    is `lanes` threads. The first factors of all reductions multiply to at least `min_steps[0]`, the second ones to at
    least `min_steps[1]`: TVM cannot pipeline a single step.

    The rest is for the analytical model: the architecture, the workload's flops and least bytes (`nbytes`), the extent
    of what is not tiled (`batch`), and the bytes of one result.
    """

    spatial: tuple[int, ...]
    reduce: tuple[int, ...]
    staged: tuple[Staged, ...]
    max_threads: int
    max_shared: int
    min_threads: int = 32
    thread_level: int = 2
    vthread_level: int = 1
    tile_level: int = 1
    lanes: int = 1
    intrinsic: tuple[int, int, int] = (1, 1, 1)
    min_steps: tuple[int, int] = (1, 1)
    arch: str = "sm_80"
    flops: float = 0.0
    nbytes: int = 0
    batch: int = 1
    out_itemsize: int = 4
    second_launch_bytes: int = 0

    @property
    def tensor_cores(self) -> bool:
        return self.lanes > 1

    def threads(self, decisions: Sequence[Decision]) -> int:
        """Threads of a block."""
        return self.lanes * math.prod(as_factors(decisions[k])[self.thread_level] for k in self.spatial)

    def vthreads(self, decisions: Sequence[Decision]) -> int:
        """Virtual threads of a block."""
        if self.vthread_level < 0:
            return 1
        return math.prod(as_factors(decisions[k])[self.vthread_level] for k in self.spatial)

    def tile(self, knob: int, choice: Decision) -> dict[int, int]:
        """The extent of a knob's loop inside a tile in shared memory; under ~knob the threads that share it."""
        factors = as_factors(choice)
        if knob in self.reduce:
            return {knob: math.prod(factors[1:])}
        return {knob: math.prod(factors[self.tile_level :]), ~knob: factors[self.thread_level]}

    def tiles(self, decisions: Sequence[Decision]) -> dict[int, int]:
        """`tile` of every knob."""
        tiles: dict[int, int] = {}
        for knob in (*self.spatial, *self.reduce):
            tiles.update(self.tile(knob, decisions[knob]))
        return tiles

    def accumulators(self, decisions: Sequence[Decision]) -> int:
        """Accumulators (scalars) of one thread."""
        inner = math.prod(math.prod(as_factors(decisions[k])[self.thread_level + 1 :]) for k in self.spatial)
        m, n, _ = self.intrinsic
        return inner * m * n // self.lanes * self.vthreads(decisions)

    def shared_bytes(self, tiles: Mapping[int, int]) -> int:
        """Bytes of shared memory of a block: operands, or results where those need more."""
        operands = sum(s.nbytes(tiles) for s in self.staged if not s.is_output)
        return max(operands, sum(s.nbytes(tiles) for s in self.staged if s.is_output))

    def legal(self, decisions: Sequence[Decision]) -> bool:
        """Whether a candidate's decisions satisfy every limit."""
        steps = [math.prod(as_factors(decisions[k])[level] for k in self.reduce) for level in (0, 1)]
        return (
            all(count >= least for count, least in zip(steps, self.min_steps, strict=True))
            and self.min_threads <= self.threads(decisions) <= self.max_threads
            and self.vthreads(decisions) <= MAX_VTHREAD
            and self.accumulators(decisions) <= MAX_ACCUMULATORS
            and self.shared_bytes(self.tiles(decisions)) <= self.max_shared
            and all(self.vector_fits(s, decisions[s.vector]) for s in self.staged if s.vector >= 0)
        )

    def vector_fits(self, staged: Staged, choice: Decision) -> bool:
        """Whether a thread may copy the chosen number of elements at once."""
        assert isinstance(choice, int)
        each = staged.itemsize if staged.contiguous else max(staged.itemsize, _INDEX_BYTES)
        return staged.widths[choice] * each <= MAX_VECTOR_BYTES

    # --- as data --------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "staged"}
        return {**plain, "staged": [buffer.to_json() for buffer in self.staged]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> GpuModel:
        plain = {name: _tuple(value) for name, value in data.items()}
        return GpuModel(**{**plain, "staged": tuple(map(Staged.from_json, data["staged"]))})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
