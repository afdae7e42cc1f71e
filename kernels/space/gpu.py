"""What a GPU sketch takes, as formulas of its decisions: threads, virtual threads, shared memory. Plain data.

TVM's VerifyGPUCode knows only after lowering whether a candidate is within the target's limits (10 to 100 ms); these
formulas know it in microseconds, so that legal candidates can be solved for (see `solver`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernels.space.decision import Decision, as_parts

MAX_VTHREAD = 8
MAX_VECTOR_BYTES = 16
"""As TVM's VerifyGPUCode has them; 16 bytes is also the widest access of a CUDA thread."""

_INDEX_BYTES = 4

MAX_ACCUMULATORS = 256
"""A thread has 255 registers: a larger register tile can only spill."""

STATIC_SHARED = 48 * 1024
"""What a kernel may declare itself; more must be dynamic (CUDA programming guide, compute capabilities)."""


@dataclass(frozen=True)
class Term:
    """`coefficient * (v // divisor % modulus)` of an index, v being the loop that knob `knob` cuts; modulus 0 is none.

    A `knob` of ~k stands for the part of knob k's loop that is bound to threads, alone.
    """

    knob: int
    coefficient: int = 1
    divisor: int = 1
    modulus: int = 0

    def steps(self, tile: int) -> int:
        """How many values `v // divisor % modulus` takes at most while v runs over an aligned tile."""
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
    terms: tuple[Term, ...] = ()

    def extent(self, tiles: Mapping[int, int]) -> int:
        """Elements that lie in the tile, given how far each knob's loop runs inside of it."""
        return min(self.limit, self.base + sum(t.coefficient * (t.steps(tiles[t.knob]) - 1) for t in self.terms))


@dataclass(frozen=True)
class Staged:
    """A buffer staged in shared memory: `copies` of a tile, rows padded as TVM's StorageAlign (factor, offset) does.

    `vector` is the position of the knob that picks one of `widths`, the elements a thread copies at once; -1 without.
    `is_output` marks a staging area for results, which is used when those for operands are not any more. Where the
    source is not `contiguous` along the tile's rows, a vector of indices is loaded, and those have 4 bytes each.
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
        extents = [d.extent(tiles) for d in self.dimensions]
        factor, offset = self.align
        if factor:
            extents[-1] += (offset - extents[-1]) % factor
        return math.prod(extents) * self.itemsize * self.copies


@dataclass(frozen=True)
class GpuModel:
    """The limits and formulas of one tiled sketch.

    Each of the `spatial` and `reduce` knobs cuts a loop; `thread_part` and `vthread_part` are the parts of a spatial
    cut that are bound to threads and virtual threads (-1: none), and a tile in shared memory spans the parts from
    `tile_part` on (from 1 on for reductions). One "thread" of a tensor-core sketch is a warp: `lanes` threads.
    The first and second parts of all reductions make at least `min_steps` steps: TVM cannot pipeline a single one.

    What the static judge needs besides: the architecture, the workload's flops and least bytes, the extent of what is
    not tiled (`batch`), and the bytes of one result.
    """

    spatial: tuple[int, ...]
    reduce: tuple[int, ...]
    staged: tuple[Staged, ...]
    max_threads: int
    max_shared: int
    min_threads: int = 32
    thread_part: int = 2
    vthread_part: int = 1
    tile_part: int = 1
    lanes: int = 1
    intrinsic: tuple[int, int, int] = (1, 1, 1)
    min_steps: tuple[int, int] = (1, 1)
    arch: str = "sm_80"
    flops: float = 0.0
    nbytes: int = 0
    batch: int = 1
    out_itemsize: int = 4

    @property
    def tensor_cores(self) -> bool:
        return self.lanes > 1

    def threads(self, decisions: Sequence[Decision]) -> int:
        return self.lanes * math.prod(as_parts(decisions[k])[self.thread_part] for k in self.spatial)

    def vthreads(self, decisions: Sequence[Decision]) -> int:
        if self.vthread_part < 0:
            return 1
        return math.prod(as_parts(decisions[k])[self.vthread_part] for k in self.spatial)

    def tile(self, knob: int, choice: Decision) -> dict[int, int]:
        """How far a knob's loop runs inside a tile in shared memory, and in ~knob how many threads share it."""
        parts = as_parts(choice)
        if knob in self.reduce:
            return {knob: math.prod(parts[1:])}
        return {knob: math.prod(parts[self.tile_part :]), ~knob: parts[self.thread_part]}

    def tiles(self, decisions: Sequence[Decision]) -> dict[int, int]:
        """`tile` of every knob."""
        found: dict[int, int] = {}
        for k in (*self.spatial, *self.reduce):
            found.update(self.tile(k, decisions[k]))
        return found

    def accumulators(self, decisions: Sequence[Decision]) -> int:
        """Scalars that one thread accumulates."""
        inner = math.prod(math.prod(as_parts(decisions[k])[self.thread_part + 1 :]) for k in self.spatial)
        m, n, _ = self.intrinsic
        return inner * m * n // self.lanes * self.vthreads(decisions)

    def shared_bytes(self, tiles: Mapping[int, int]) -> int:
        """Shared memory of a block: operands, or results where those need more."""
        operands = sum(s.nbytes(tiles) for s in self.staged if not s.is_output)
        return max(operands, sum(s.nbytes(tiles) for s in self.staged if s.is_output))

    def legal(self, decisions: Sequence[Decision]) -> bool:
        """Whether a candidate's decisions respect every limit."""
        steps = [math.prod(as_parts(decisions[k])[level] for k in self.reduce) for level in (0, 1)]
        return (
            all(made >= least for made, least in zip(steps, self.min_steps, strict=True))
            and self.min_threads <= self.threads(decisions) <= self.max_threads
            and self.vthreads(decisions) <= MAX_VTHREAD
            and self.accumulators(decisions) <= MAX_ACCUMULATORS
            and self.shared_bytes(self.tiles(decisions)) <= self.max_shared
            and all(self.vector_fits(s, decisions[s.vector]) for s in self.staged if s.vector >= 0)
        )

    def vector_fits(self, staged: Staged, choice: Decision) -> bool:
        assert isinstance(choice, int)
        each = staged.itemsize if staged.contiguous else max(staged.itemsize, _INDEX_BYTES)
        return staged.widths[choice] * each <= MAX_VECTOR_BYTES

    # --- as data --------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "staged"}
        staged = [
            {
                **{name: getattr(s, name) for name in s.__dataclass_fields__ if name != "dimensions"},
                "dimensions": [
                    [d.limit, d.base, [[t.knob, t.coefficient, t.divisor, t.modulus] for t in d.terms]]
                    for d in s.dimensions
                ],
            }
            for s in self.staged
        ]
        return {**plain, "staged": staged}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> GpuModel:
        staged = [
            Staged(
                **{
                    **{k: _tuple(v) for k, v in s.items()},
                    "dimensions": tuple(
                        Dimension(limit, base, tuple(Term(*t) for t in terms)) for limit, base, terms in s["dimensions"]
                    ),
                }
            )
            for s in data["staged"]
        ]
        return GpuModel(**{**{k: _tuple(v) for k, v in data.items()}, "staged": tuple(staged)})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
