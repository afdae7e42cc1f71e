"""The statements of an unscheduled function: one root block over loop nests around leaf blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from kernels.reference.domain import Atom, Domain, Unsupported


@dataclass(frozen=True)
class LeafBlock:
    """A block without blocks inside: its domain, and its statements (bindings and stores) in order."""

    domain: Domain
    init: tuple[Any, ...]
    body: tuple[Any, ...]

    @property
    def stores(self) -> list[Any]:
        return [s for s in self.body if isinstance(s, tirx.BufferStore)]


def sequence(statement: Any) -> tuple[Any, ...]:
    """The statements of a sequence; a single statement is a sequence of one."""
    return tuple(statement.seq) if isinstance(statement, tirx.SeqStmt) else (statement,)


def root_block(func: tirx.PrimFunc) -> Any:
    """The block that is the body of a function. Raises Unsupported where it is anything else."""
    realize = func.body
    if not isinstance(realize, tvm.s_tir.SBlockRealize) or len(realize.block.iter_vars) > 0:
        raise Unsupported("a body that is not one root block")
    return realize.block


def extent_of(value: Any) -> int:
    """A constant extent as a number. Raises Unsupported for a symbolic one."""
    if not isinstance(value, tirx.IntImm):
        raise Unsupported("a symbolic extent")
    return int(value.value)


def leaf_block(statement: Any) -> LeafBlock:
    """The block inside a loop nest. Raises Unsupported unless its variables are the loops themselves."""
    loops: dict[Any, int] = {}
    while isinstance(statement, tirx.For):
        if extent_of(statement.min) != 0 or int(statement.kind) != 0:
            raise Unsupported("a scheduled loop")
        loops[statement.loop_var] = extent_of(statement.extent)
        statement = statement.body
    if not isinstance(statement, tvm.s_tir.SBlockRealize):
        raise Unsupported(f"statement {type(statement).__name__} outside of a block")
    block = statement.block
    if len(block.match_buffers) > 0 or len(block.alloc_buffers) > 0:
        raise Unsupported("a block with buffers of its own")
    if not (isinstance(statement.predicate, tirx.IntImm) and int(statement.predicate.value) == 1):
        raise Unsupported("a predicate")
    domain = _domain(block, statement.iter_values, loops)
    init = sequence(block.init) if block.init is not None else ()
    body = sequence(block.body)
    if not all(isinstance(s, (tirx.Bind, tirx.BufferStore)) for s in (*init, *body)):
        raise Unsupported("a block that does more than bind and store")
    return LeafBlock(domain, init, body)


def _domain(block: Any, values: Sequence[Any], loops: dict[Any, int]) -> Domain:
    """The domain of a block whose variables take these values, each of which must be one of the loops around it."""
    atoms = []
    for iter_var, value in zip(block.iter_vars, values, strict=True):
        extent = extent_of(iter_var.dom.extent)
        bound = loops.pop(value, None) if isinstance(value, tirx.Var) else 1 if _is_zero(value) else None
        if bound != extent or extent_of(iter_var.dom.min) != 0:
            raise Unsupported("a block variable that is not one loop")
        if iter_var.iter_type not in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce):
            raise Unsupported("an ordered or opaque block variable")
        atoms.append(Atom(iter_var.var, 1, extent, iter_var.iter_type == tirx.IterVar.CommReduce))
    if any(extent != 1 for extent in loops.values()):
        raise Unsupported("a loop that no block variable uses")
    return Domain(tuple(sorted(atoms, key=lambda atom: atom.reduce)))


def _is_zero(value: Any) -> bool:
    return isinstance(value, tirx.IntImm) and int(value.value) == 0
