"""The launches of a scheduled program, in the form in which TVM's lowering has them when buffers have their final size:
loops, blocks without iteration variables, stores. What depends on a tile's number is then only where it reads and
writes global memory."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import SBlock, SBlockRealize
from tvm.target import Target
from tvm.tirx.op import tvm_storage_sync

from kernels.gpus import MODELLED_AS, gpu_of
from kernels.lowering import nbytes, nodes, until_compacted
from kernels.nests.plain import has_blocks, sequence, with_body
from kernels.occupancy import occupancy
from kernels.waves import busiest

LOADS = "block_loads"
"""The attribute of a rewritten function: for each of its launches [number of blocks, work of each in stores] of
neighbouring blocks with equal work, as JSON."""

_WARP = 32
_BASE_REGISTERS = 32
_REGISTER_BYTES = 4
_MOST_REGISTERS = 255
_STAGES = "software_pipeline_stage"


class Refused(Exception):
    """Why a launch stays as it is, in words."""


@functools.lru_cache(maxsize=8)
def opaque(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """A scheduled function as TVM's own pipeline has it after it compacted buffers (1 to 5 ms); one without blocks is
    returned as it is. That pipeline changes nothing more when it does the same once again."""
    if not has_blocks(function):
        return function
    lowering = tvm.ir.transform.Sequential([*until_compacted(), s_tir.transform.StmtSimplify()])
    return lowering(tvm.IRModule({"main": function}))["main"]


def tag(loop: Any) -> str:
    """What a loop is bound to; "" where it is not."""
    return str(loop.thread_binding.thread_tag) if loop.thread_binding is not None else ""


@dataclass(frozen=True)
class Launch:
    """A launch: `grid` has the loops that are bound to thread blocks, and `body` is what one of them, a tile, does."""

    grid: tuple[Any, ...]
    body: Any

    @property
    def tiles(self) -> int:
        return math.prod(int(loop.extent) for loop in self.grid)

    @property
    def dtype(self) -> str:
        """Of the numbers of its blocks."""
        return str(self.grid[0].loop_var.ty.dtype)

    @property
    def threads(self) -> int:
        """Of a thread block."""
        bound = {tag(loop): int(loop.extent) for loop in self.bound}
        return math.prod(extent for name, extent in bound.items() if name.startswith("threadIdx"))

    @property
    def bound(self) -> tuple[Any, ...]:
        """The loops of a tile that are bound to threads."""
        return tuple(loop for loop in nodes(self.body, tirx.For) if tag(loop))

    @property
    def buffers(self) -> tuple[Any, ...]:
        """What a block allocates."""
        return tuple(buffer for block in nodes(self.body, SBlock) for buffer in block.alloc_buffers)

    def coordinates(self, tile: Any) -> Mapping[Any, Any]:
        """The grid's variables in a tile. Tiles are numbered as the hardware numbers blocks: along x first."""
        loops = sorted(self.grid, key=tag)
        found, rest = {}, tile
        for number, loop in enumerate(loops):
            extent = tirx.const(int(loop.extent), self.dtype)
            own = rest if number == len(loops) - 1 else tirx.floormod(rest, extent)
            dtype = str(loop.loop_var.ty.dtype)
            found[loop.loop_var] = own if dtype == self.dtype else own.astype(dtype)
            rest = tirx.floordiv(rest, extent)
        return found

    def barrier(self) -> list[Any]:
        """The statement for which a block's threads wait for one another; none where they share no memory."""
        scopes = {str(buffer.scope()) for buffer in self.buffers if str(buffer.scope()).startswith("shared")}
        reduced = any(_named(call).endswith("tvm_thread_allreduce") for call in nodes(self.body, tvm.ir.Call))
        if not scopes and not reduced:
            return []
        scope = "shared.dyn" if "shared.dyn" in scopes else "shared"
        return [tirx.Evaluate(tvm_storage_sync(scope))]


def _named(call: Any) -> str:
    return str(getattr(call.op, "name", ""))


def launch_of(loop: Any) -> Launch:
    """The launch that begins with a loop which is bound to thread blocks. Raises Refused."""
    grid = []
    while isinstance(loop, tirx.For) and tag(loop).startswith("blockIdx"):
        if not isinstance(loop.extent, tirx.IntImm) or not isinstance(loop.min, tirx.IntImm) or int(loop.min):
            raise Refused("its number of thread blocks is not fixed")
        grid.append(loop)
        loop = loop.body
    if len({tag(outer) for outer in grid}) < len(grid) or any(
        tag(inner).startswith("blockIdx") for inner in nodes(loop, tirx.For)
    ):
        raise Refused("its loops over thread blocks are not right inside one another")
    return Launch(tuple(grid), loop)


def rewritten(function: tirx.PrimFunc, change: Callable[[Any], Any]) -> tirx.PrimFunc:
    """The function with something else in place of each outermost loop over thread blocks; no other thread may be
    around."""

    def look(statement: Any) -> Any | None:
        if not isinstance(statement, tirx.For) or not tag(statement):
            return None
        return change(statement) if tag(statement).startswith("blockIdx") else statement

    return function.with_body(mapped(function.body, look))


def mapped(statement: Any, change: Callable[[Any], Any | None]) -> Any:
    """A statement in which `change` was tried on every statement, outer ones first; where it gives one, that takes the
    statement's place, and nothing inside of it is tried."""
    made = change(statement)
    if made is not None:
        return made
    if isinstance(statement, tirx.For):
        return with_body(statement, mapped(statement.body, change))
    if isinstance(statement, tirx.SeqStmt):
        return sequence([mapped(part, change) for part in statement.seq])
    if isinstance(statement, SBlockRealize):
        return with_block(statement, mapped(statement.block.body, change))
    if isinstance(statement, tirx.AttrStmt):
        return tirx.AttrStmt(statement.node, statement.attr_key, statement.value, mapped(statement.body, change))
    if isinstance(statement, tirx.IfThenElse):
        other = None if statement.else_case is None else mapped(statement.else_case, change)
        return tirx.IfThenElse(statement.condition, mapped(statement.then_case, change), other)
    return statement


def with_block(realize: Any, body: Any, allocated: Sequence[Any] = ()) -> Any:
    """A block around another body, with some more buffers."""
    block = realize.block
    made = SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init,
        [*block.alloc_buffers, *allocated], block.match_buffers, block.annotations,
    )  # fmt: skip
    return SBlockRealize(realize.iter_values, realize.predicate, made)


def launches(function: tirx.PrimFunc) -> list[Launch | Refused]:
    """Every launch of a function in the form of `opaque`, in order."""
    found: list[Launch | Refused] = []

    def look(loop: Any) -> Any:
        try:
            found.append(launch_of(loop))
        except Refused as error:
            found.append(error)
        return loop

    rewritten(function, look)
    return found


# --- what is resident ----------------------------------------------------------------------------------


def arch_of(target: Target | None = None) -> str:
    """The architecture that a target, or the current one, is taken for."""
    target = target or Target.current(allow_none=True)
    return MODELLED_AS if target is None else str(target.attrs.get("arch", MODELLED_AS))


def resident(launch: Launch, arch: str) -> int:
    """How many thread blocks of a launch the most capable GPU of an architecture holds at once.

    By the occupancy rules, of its threads, its shared memory and an estimate of its registers (ptxas decides on them
    later): those of its local buffers, and 32 for addresses.
    """
    multiprocessors = gpu_of(arch).multiprocessors
    try:
        at_once = occupancy(arch, launch.threads, _registers(launch), _shared_bytes(launch)).blocks
    except ValueError:  # no rules for the architecture
        at_once = 1
    return multiprocessors * max(at_once, 1)


def _registers(launch: Launch) -> int:
    virtual = math.prod(int(loop.extent) for loop in nodes(launch.body, tirx.For) if tag(loop).startswith("vthread"))
    own = sum(nbytes(b) for b in launch.buffers if str(b.scope()) == "local") * virtual
    fragments = sum(nbytes(b) for b in launch.buffers if str(b.scope()).startswith("wmma.")) // _WARP
    return min(_BASE_REGISTERS + (own + fragments) // _REGISTER_BYTES, _MOST_REGISTERS)


def _shared_bytes(launch: Launch) -> int:
    copies = 1
    for loop in nodes(launch.body, tirx.For):
        if _STAGES in loop.annotations:
            stages = [int(stage) for stage in loop.annotations[_STAGES]]
            copies = max(copies, max(stages) - min(stages) + 1)
    return copies * sum(nbytes(b) for b in launch.buffers if str(b.scope()).startswith("shared"))


# --- what is idle ---------------------------------------------------------------------------------------


def work(statement: Any) -> int:
    """The stores and intrinsics that a statement executes, of all threads; a condition counts as if it held, and a loop
    whose length is not fixed as if it ran once."""
    if isinstance(statement, tirx.For):
        return (int(statement.extent) if isinstance(statement.extent, tirx.IntImm) else 1) * work(statement.body)
    if isinstance(statement, tirx.SeqStmt):
        return sum(map(work, statement.seq))
    if isinstance(statement, SBlockRealize):
        return work(statement.block.body)
    if isinstance(statement, tirx.IfThenElse):
        other = 0 if statement.else_case is None else work(statement.else_case)
        return max(work(statement.then_case), other)
    if isinstance(statement, tirx.AttrStmt):
        return work(statement.body)
    return int(isinstance(statement, (tirx.BufferStore, tirx.Evaluate)))


def with_loads(function: tirx.PrimFunc, loads: Sequence[Sequence[float]]) -> tirx.PrimFunc:
    """The function with a note of the work of each block of each of its launches."""
    runs = [[[len(list(equal)), load] for load, equal in itertools.groupby(each)] for each in loads]
    return function.with_attr(LOADS, json.dumps(runs))


def loads_of(function: tirx.PrimFunc) -> list[list[float]]:
    """The work of each block of each launch of a scheduled function: as noted, else equal for all of a launch."""
    noted = (function.attrs or {}).get(LOADS)
    if noted is not None:
        runs = json.loads(str(getattr(noted, "value", noted)))
        return [[load for count, load in each for _ in range(count)] for each in runs]
    every = launches(opaque(function))
    return [[float(work(one.body))] * one.tiles if isinstance(one, Launch) else [] for one in every]


def idle(function: tirx.PrimFunc, target: Target) -> float:
    """The part of the multiprocessors' time that is idle, 0 to 1, over all launches of a scheduled function, one after
    the other, where time is what the stores of a block say. 0 where nothing is launched."""
    multiprocessors = gpu_of(arch_of(target)).multiprocessors
    each = loads_of(function)
    whole = sum(busiest(loads, multiprocessors) for loads in each) * multiprocessors
    return 1.0 - sum(map(sum, each)) / whole if whole else 0.0
