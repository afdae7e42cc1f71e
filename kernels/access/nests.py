"""The loads and stores of a lowered program with everything their indices depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import tirx

from kernels.access import fragments
from kernels.access.indices import Bounds, bounds_of
from kernels.launch_plan import ITEM_BYTES
from kernels.nests.linear import substituted
from kernels.reference.expressions import subexpressions

SWIZZLED, FRAGMENTS = "swizzled_shared", "warp_mma"
"""Attributes of functions: the chunks of their shared memory, and that fragments are loaded by `ldmatrix`."""

WARP = 32

_POINTERS = ("address_of", "tvm_access_ptr", "ptx_", "mma", "tvm_load_matrix", "tvm_store_matrix", "tvm_fill")
"""How the names of calls begin that are given memory by a pointer (or, with `tirx.`, what follows it)."""


class Unbound(Exception):
    """A program that binds no loop to threads."""


@dataclass(frozen=True)
class Touch:
    """A load or store: `index` is flat, in elements. `extents`: the bounds of every variable around it. `granule`: the
    bytes of a chunk of its swizzled buffer, 0 where it is not swizzled."""

    buffer: str
    scope: str
    dtype: str
    store: bool
    index: Any
    extents: Bounds
    granule: int = 0


@dataclass
class Launch:
    """A launch as its program states it. `threads` and `blocks`: (variable, extent) by name."""

    threads: dict[str, tuple[Any, int]] = field(default_factory=dict)
    blocks: dict[str, tuple[Any, int]] = field(default_factory=dict)
    touches: list[Touch] = field(default_factory=list)
    opaque: int = 0
    shared_bytes: int = 0


def launches(function: tirx.PrimFunc) -> list[Launch]:
    """The launches of a program in the form of `lowering.access_form`. Raises Unbound where there are none."""
    attributes = function.attrs or {}
    walker = _Walker(int(attributes.get(SWIZZLED, 0)), FRAGMENTS in attributes)
    walker.statement(function.body, {}, None)
    if not walker.found:
        raise Unbound("no loop of the program is bound to threads")
    return walker.found


class _Walker:
    """`granule`: of the chunks of shared memory. `by_lanes`: which lane accesses what of a fragment is known."""

    def __init__(self, granule: int, by_lanes: bool) -> None:
        self.found: list[Launch] = []
        self._granule = granule
        self._by_lanes = by_lanes
        self._bound: dict[Any, Any] = {}

    def statement(self, statement: Any, extents: Bounds, launch: Launch | None) -> None:
        """Collect what a statement touches. `launch` is the launch that it is part of."""
        if isinstance(statement, tirx.SeqStmt):
            for child in statement.seq:
                self.statement(child, extents, launch)
            return
        if isinstance(statement, tirx.AttrStmt) and statement.attr_key == "thread_extent":
            launch = launch or self._new()
            extents = self._bind_threads(statement, extents, launch)
        elif isinstance(statement, tirx.For):
            bounds = bounds_of(self._inlined(statement.min), self._inlined(statement.extent), extents)
            extents = {**extents, statement.loop_var: bounds}
        elif isinstance(statement, tirx.Bind):
            self._bound[statement.var] = self._inlined(statement.value)
        elif isinstance(statement, tirx.AllocBuffer) and launch is not None:
            launch.shared_bytes += _shared_bytes(statement.buffer)
        if launch is not None:
            self._touches(statement, extents, launch)
        for name in ("body", "then_case", "else_case"):
            inner = getattr(statement, name, None)
            if inner is not None:
                self.statement(inner, extents, launch)

    def _new(self) -> Launch:
        self.found.append(Launch())
        return self.found[-1]

    def _bind_threads(self, statement: Any, extents: Bounds, launch: Launch) -> Bounds:
        name, variable, extent = str(statement.node.thread_tag), statement.node.var, int(statement.value)
        of = launch.threads if name.startswith("threadIdx") else launch.blocks
        of.setdefault(name, (variable, extent))
        return {**extents, variable: (0, extent)}

    def _touches(self, statement: Any, extents: Bounds, launch: Launch) -> None:
        for expression in _expressions(statement):
            for part in subexpressions(self._inlined(expression)):
                if isinstance(part, tvm.ir.TensorLoad):
                    self._touch(part.source, part.indices, extents, launch, store=False)
                elif isinstance(part, tvm.ir.Call) and self._by_lanes and _name(part) in fragments.CALLS:
                    self._fragment(part, extents, launch)
                elif isinstance(part, tvm.ir.Call):
                    launch.opaque += _takes_pointers(part)
        if isinstance(statement, tirx.BufferStore):
            self._touch(statement.buffer, statement.indices, extents, launch, store=True)

    def _fragment(self, call: Any, extents: Bounds, launch: Launch) -> None:
        """What the lanes access of the tile that a fragment is loaded from or stored to."""
        if _name(call) not in (fragments.LOAD, fragments.STORE):
            return
        lane, _ = launch.threads["threadIdx.x"]
        buffer, _ = fragments.tile_of(call)
        for index in fragments.indices(call, lane % WARP):
            self._touch(buffer, [index], extents, launch, store=_name(call) == fragments.STORE)

    def _touch(self, buffer: Any, indices: Any, extents: Bounds, launch: Launch, store: bool) -> None:
        scope = str(buffer.scope()).partition(".")[0] or "global"
        if scope not in ("global", "shared"):
            return
        [index] = [self._inlined(index) for index in indices]
        granule = self._granule if scope == "shared" else 0
        launch.touches.append(Touch(buffer.name, scope, str(buffer.dtype), store, index, extents, granule))

    def _inlined(self, expression: Any) -> Any:
        """With the values of bound variables in their place."""
        if not self._bound:
            return expression
        return substituted(expression, self._bound)


def _expressions(statement: Any) -> list[Any]:
    if isinstance(statement, tirx.BufferStore):
        return [statement.value, *statement.indices]
    if isinstance(statement, tirx.IfThenElse):
        return [statement.condition]
    if isinstance(statement, (tirx.Evaluate, tirx.Bind)):
        return [statement.value]
    return []


def _shared_bytes(buffer: Any) -> int:
    if not str(buffer.scope()).startswith("shared"):
        return 0
    return math.prod(int(extent) for extent in buffer.shape) * ITEM_BYTES.get(str(buffer.dtype), 4)


def _name(call: Any) -> str:
    return str(getattr(call.op, "name", "")).removeprefix("tirx.")


def _takes_pointers(call: Any) -> bool:
    return _name(call).startswith(_POINTERS)
