"""The sum that each tile of a launch is, taken apart: the loops over its steps, its beginning, and the one store of its
result. What is found here may be computed in parts: each part begins with zeros, runs some of the steps, and what it
has summed is added to that of the others before it is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize, Schedule

from kernels.lowering import nodes
from kernels.nests.linear import loads, same_element, uses
from kernels.persistent.launches import Launch, Refused, tag

_PIPELINE = "software_pipeline_stage"
_UNROLL = "pragma_"


@dataclass(frozen=True)
class TileSum:
    """`loops`: those over the steps of the reduction, the outermost first, right inside one another. `store`: the store
    of a result, and `load`, in its value, that of the sum. `around`: the statements around the store, from the tile on,
    outermost first: loops, conditions and blocks."""

    loops: tuple[Any, ...]
    store: Any
    load: Any
    around: tuple[Any, ...]

    @property
    def steps(self) -> int:
        return math.prod(int(loop.extent) for loop in self.loops)


def tile_sum(launch: Launch) -> TileSum:
    """The sum of a launch. Raises Refused, with what is not shown of it."""
    parts = _parts(launch.body)
    number, loop, sums = _summing(parts)
    before, after = parts[:number], parts[number + 1 :]
    _check_beginning(before, sums)
    _check_steps(parts[number], sums, [*before, *after])
    loops = _steps(loop, sums)
    store, load, around = _result(launch.body, after, sums)
    return TileSum(tuple(loops), store, load, tuple(around))


def covered(function: tirx.PrimFunc) -> bool:
    """Whether every block of a scheduled program reads only what was written for it, inside the loops that writer and
    reader share: so a step of a reduction finds nothing of the step before. By TVM's own analysis of regions."""
    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="none")
    state = schedule.state
    blocks = [block for block in nodes(schedule.mod["main"].body, SBlock) if block.iter_vars]
    flags = [state._get_cached_flags(state.get_sref(block)) for block in blocks]  # noqa: SLF001 - TVM has no other name
    return all(flag.region_cover for flag in flags)


def _parts(statement: Any) -> list[Any]:
    """The statements that a thread executes for a tile. Raises Refused."""
    while not isinstance(statement, tirx.SeqStmt):
        if isinstance(statement, SBlockRealize) and always(statement):
            statement = statement.block.body
        elif isinstance(statement, tirx.AttrStmt) or (isinstance(statement, tirx.For) and tag(statement)):
            statement = statement.body
        else:
            raise Refused("its tiles are no sums of their own")
    return list(statement.seq)


def always(realize: Any) -> bool:
    """Whether a block is under no condition."""
    predicate = realize.predicate
    return isinstance(predicate, tirx.IntImm) and bool(int(predicate))


def _summing(parts: Sequence[Any]) -> tuple[int, Any, list[Any]]:
    """Which statement is the loop over the steps, the loop, and the buffers it sums in. Raises Refused."""
    found = []
    for number, part in enumerate(parts[:-1]):
        loop = _serial_loop(part)
        if loop is not None:
            begun = [buffer for earlier in parts[:number] for buffer in _written(earlier)]
            sums = [buffer for buffer in _written(part) if _among(buffer, begun)]
            if sums:
                found.append((number, loop, sums))
    if len(found) != 1:
        raise Refused("its tiles are no sums of their own" if not found else "its tiles are several sums")
    return found[0]


def _serial_loop(part: Any) -> Any | None:
    while isinstance(part, (SBlockRealize, tirx.AttrStmt)):
        if isinstance(part, SBlockRealize) and not always(part):
            return None
        part = part.block.body if isinstance(part, SBlockRealize) else part.body
    serial = isinstance(part, tirx.For) and part.kind == tirx.ForKind.SERIAL and not tag(part)
    return part if serial else None


# --- leaves: the blocks that have no other inside ---------------------------------------------------------


def _leaves(statement: Any) -> list[Any]:
    return [block for block in nodes(statement, SBlock) if not nodes(block.body, SBlock)]


def _written(statement: Any) -> list[Any]:
    """The buffers that the leaves of a statement write, each once."""
    return _distinct(region.source for leaf in _leaves(statement) for region in leaf.writes)


def _touched(statement: Any) -> list[Any]:
    return _distinct(r.source for leaf in _leaves(statement) for r in (*leaf.reads, *leaf.writes))


def _distinct(buffers: Iterator[Any]) -> list[Any]:
    found: list[Any] = []
    for buffer in buffers:
        if not _among(buffer, found):
            found.append(buffer)
    return found


def _among(buffer: Any, buffers: Sequence[Any]) -> bool:
    return any(buffer.same_as(other) for other in buffers)


def _is_global(buffer: Any) -> bool:
    return str(buffer.scope()) in ("", "global")


def _call(leaf: Any, name: str) -> Any | None:
    """The call of an intrinsic that is all that a leaf does; None where it does something else."""
    body = leaf.body
    while isinstance(body, (tirx.For, tirx.AttrStmt)):
        body = body.body
    called = isinstance(body, tirx.Evaluate) and isinstance(body.value, tvm.ir.Call)
    return body.value if called and str(getattr(body.value.op, "name", "")).endswith(name) else None


def _stores(leaf: Any) -> list[Any]:
    """The stores of a leaf that is made of stores alone. Raises Refused."""
    found = nodes(leaf.body, tirx.BufferStore)
    if not found or nodes(leaf.body, tirx.Evaluate):
        raise Refused("an intrinsic whose effect is not known")
    return found


# --- what must hold ---------------------------------------------------------------------------------------


def _check_beginning(before: Sequence[Any], sums: Sequence[Any]) -> None:
    for leaf in (leaf for part in before for leaf in _leaves(part)):
        if not all(_among(region.source, sums) for region in leaf.writes):
            raise Refused("something else than its sums is computed before its steps")
        filled = _call(leaf, "tvm_fill_fragment")
        values = [filled.args[5]] if filled is not None else [store.value for store in _stores(leaf)]
        if not all(_is_zero(value) for value in values):
            raise Refused("its sums do not begin with zeros")


def _is_zero(value: Any) -> bool:
    while isinstance(value, (tirx.Broadcast, tirx.Cast)):
        value = value.value
    return isinstance(value, (tirx.IntImm, tirx.FloatImm)) and float(value.value) == 0.0


def _check_steps(part: Any, sums: Sequence[Any], others: Sequence[Any]) -> None:
    """What a step does: it adds to the sums, and copies into memory of its own."""
    outside = [buffer for other in others for buffer in _touched(other)]
    for leaf in _leaves(part):
        written = [region.source for region in leaf.writes]
        if any(_among(buffer, sums) for buffer in written):
            _check_update(leaf, sums)
            continue
        if any(_is_global(buffer) for buffer in written):
            raise Refused("a step of its reduction writes to global memory")
        if any(_among(buffer, outside) for buffer in written):
            raise Refused("what a step of its reduction copies is read after it")


def _check_update(leaf: Any, sums: Sequence[Any]) -> None:
    product = _call(leaf, "tvm_mma_sync")
    if product is not None:
        d, at, _, _, _, _, c, c_at = product.args
        if not (tvm_ffi.structural_equal(d, c) and tvm_ffi.structural_equal(at, c_at)):
            raise Refused("a product of fragments that does not add to its own sum")
        return
    for store in _stores(leaf):
        total = store.value
        if not isinstance(total, tirx.Add):
            raise Refused("its reduction is no sum")
        sides = [side for side in (total.a, total.b) if _is_load_of(side, store)]
        term = total.b if sides and sides[0].same_as(total.a) else total.a
        if len(sides) != 1 or any(_among(load.source, sums) for load in loads(term)):
            raise Refused("its reduction is no sum")


def _is_load_of(expression: Any, store: Any) -> bool:
    same = isinstance(expression, tvm.ir.TensorLoad) and expression.source.same_as(store.buffer)
    return same and same_element(expression.indices, store.indices)


def _steps(loop: Any, sums: Sequence[Any]) -> list[Any]:
    """The loops over the steps: from the outermost one on, those right inside one another that the sums' elements do
    not depend on. Raises Refused."""
    regions = [r for leaf in _leaves(loop) for r in leaf.writes if _among(r.source, sums)]
    found: list[Any] = []
    while isinstance(loop, tirx.For) and loop.kind == tirx.ForKind.SERIAL and not tag(loop):
        fixed = isinstance(loop.extent, tirx.IntImm) and isinstance(loop.min, tirx.IntImm) and int(loop.min) == 0
        plain = all(str(key).startswith(_UNROLL) for key in loop.annotations)
        if not fixed or not plain or any(uses(axis.min, loop.loop_var) for r in regions for axis in r.region):
            break
        found.append(loop)
        loop = loop.body
    if not found:
        pipelined = _PIPELINE in loop.annotations
        raise Refused("its steps are pipelined" if pipelined else "its sums depend on the step")
    return found


def _result(tile: Any, after: Sequence[Any], sums: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
    """The store of a result, the load of the sum in it, and what is around it. Raises Refused."""
    carried, results = list(sums), []
    for leaf in (leaf for part in after for leaf in _leaves(part)):
        if any(_is_global(region.source) for region in leaf.writes):
            results.append(leaf)
        elif _copies(leaf, carried):
            carried += [region.source for region in leaf.writes]
        else:
            raise Refused("more than a copy lies between its sums and its results")
    stores = [store for leaf in results for store in _stores(leaf)]
    if len(stores) != 1:
        raise Refused("it has several results" if stores else "its results are not stored by a statement")
    [store] = stores
    found = [load for load in loads(store.value) if not _is_global(load.source)]
    if not found or not all(_among(load.source, carried) for load in found):
        raise Refused("its results are not made of its sums")
    if not all(_same_load(load, found[0]) for load in found):
        raise Refused("a result is made of several sums")
    if any(load.source.same_as(store.buffer) for load in loads(store.value)):
        raise Refused("it reads what it writes")
    around = _around(tile, store)
    if any(not isinstance(loop.extent, tirx.IntImm) for loop in around if isinstance(loop, tirx.For)):
        raise Refused("the number of its results is not fixed")
    return store, found[0], around


def _same_load(a: Any, b: Any) -> bool:
    return bool(a.source.same_as(b.source)) and same_element(a.indices, b.indices)


def _copies(leaf: Any, carried: Sequence[Any]) -> bool:
    """Whether a leaf copies sums as they are."""
    if _call(leaf, "tvm_store_matrix_sync") is not None:
        return all(_among(region.source, carried) for region in leaf.reads)
    stores = nodes(leaf.body, tirx.BufferStore)
    plain = [isinstance(s.value, tvm.ir.TensorLoad) and _among(s.value.source, carried) for s in stores]
    return bool(stores) and all(plain) and not nodes(leaf.body, tirx.Evaluate)


def _around(statement: Any, store: Any) -> list[Any]:
    """The statements around a store, outermost first."""
    if statement.same_as(store):
        return []
    if isinstance(statement, tirx.SeqStmt):
        inner = next(part for part in statement.seq if _holds(part, store))
        return _around(inner, store)
    if isinstance(statement, SBlockRealize):
        return [statement, *_around(statement.block.body, store)]
    if isinstance(statement, tirx.IfThenElse):
        if statement.else_case is not None:
            raise Refused("its results are stored under a condition with two cases")
        return [statement, *_around(statement.then_case, store)]
    return [statement, *_around(statement.body, store)]


def _holds(statement: Any, store: Any) -> bool:
    return any(found.same_as(store) for found in nodes(statement, tirx.BufferStore))
