"""Launches that are one block in a nest of loops, taken apart, and the proof that the block's iterations may be run in
another order and on other threads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from kernels.access.indices import Unknown, Values, evaluate
from kernels.lowering import nodes
from kernels.reference.expressions import subexpressions

MOST_ITERATIONS = 1 << 21
"""Iterations of a nest whose order is looked at one by one: a quarter of a second."""


class Refused(Exception):
    """Why a nest stays as it is, in words."""


@dataclass(frozen=True)
class Nest:
    """A launch: the loops from the outermost on, and the realization of the one block in them."""

    loops: tuple[Any, ...]
    realize: Any

    @property
    def block(self) -> SBlock:
        return self.realize.block

    @property
    def name(self) -> str:
        return str(self.block.name_hint)

    @property
    def threads(self) -> int:
        """Threads of a thread block."""
        return math.prod(int(loop.extent) for loop in self.loops if _tag(loop).startswith("threadIdx"))

    def natural(self) -> Any:
        """The block in loops over its own iteration variables, which are serial and in their order.

        Raises Refused where that is not shown to be the same program.
        """
        _check_block(self.block)
        _check_order(self)
        loops = [tirx.Var(f"i{n}", str(v.var.ty.dtype)) for n, v in enumerate(self.block.iter_vars)]
        body: Any = SBlockRealize(loops, True, self.block)
        for variable, iteration in reversed(list(zip(loops, self.block.iter_vars, strict=True))):
            body = tirx.For(variable, iteration.dom.min, iteration.dom.extent, tirx.ForKind.SERIAL, body)
        return body


def nests(function: tirx.PrimFunc) -> Iterator[tuple[int, Nest | Refused, str]]:
    """(number of the statement, the nest or why it is none, its name) of each launch of a scheduled program."""
    for number, statement in enumerate(statements(function)):
        name = _first_block(statement)
        try:
            yield number, _nest(statement), name
        except Refused as error:
            yield number, error, name


def statements(function: tirx.PrimFunc) -> list[Any]:
    """The statements of a program's root block, in order."""
    root = function.body.block if isinstance(function.body, SBlockRealize) else None
    if root is None:
        return []
    return list(root.body.seq) if isinstance(root.body, tirx.SeqStmt) else [root.body]


def _nest(statement: Any) -> Nest:
    loops = []
    while isinstance(statement, tirx.For):
        loops.append(statement)
        statement = statement.body
    if not isinstance(statement, SBlockRealize):
        raise Refused("its launch is more than one block")
    if not any(_tag(loop).startswith("threadIdx") for loop in loops):
        raise Refused("no loop is bound to threads")
    if any(not isinstance(bound, tirx.IntImm) for loop in loops for bound in (loop.min, loop.extent)):
        raise Refused("a loop whose extent depends on another")
    return Nest(tuple(loops), statement)


def _first_block(statement: Any) -> str:
    while not isinstance(statement, SBlockRealize):
        statement = statement.seq[0] if isinstance(statement, tirx.SeqStmt) else getattr(statement, "body", None)
        if statement is None:
            return ""
    return str(statement.block.name_hint)


def _tag(loop: Any) -> str:
    return str(loop.thread_binding.thread_tag) if loop.thread_binding is not None else ""


def is_reduction(iteration: Any) -> bool:
    return bool(iteration.iter_type == tirx.IterVar.CommReduce)


def stores(block: SBlock) -> list[Any]:
    """The stores of a block's body. Raises Refused where it has other statements."""
    body = block.body
    found = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    if not all(isinstance(statement, tirx.BufferStore) for statement in found):
        raise Refused("its block is more than stores")
    return found


def loads(expression: Any) -> list[Any]:
    return [part for part in subexpressions(expression) if isinstance(part, tvm.ir.TensorLoad)]


def _check_block(block: SBlock) -> None:
    """Whether the iterations of a block are independent of one another, but for a reduction's. Raises Refused."""
    if block.alloc_buffers or block.match_buffers:
        raise Refused("its block has buffers of its own")
    for iteration in block.iter_vars:
        if iteration.iter_type not in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce):
            raise Refused("an iteration variable that is neither parallel nor a reduction")
    spatial = [v.var for v in block.iter_vars if not is_reduction(v)]
    written = stores(block)
    for store in written:
        if not all(any(_is(index, v) for index in store.indices) for v in spatial):
            raise Refused("iterations that may write the same element")
        for load in [part for other in written for part in loads(other.value)]:
            if load.source.same_as(store.buffer) and not _all_same(load.indices, store.indices):
                raise Refused("it reads other elements of what it writes")


def _is(expression: Any, variable: Any) -> bool:
    return isinstance(expression, tirx.Var) and bool(expression.same_as(variable))


def _all_same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(tvm_ffi.structural_equal(x, y) for x, y in zip(a, b, strict=True))


def _check_order(nest: Nest) -> None:
    """Whether the loops run each iteration of the block's domain exactly once, those of one element on one thread in
    the domain's own order. Looks at every one of them. Raises Refused."""
    count = math.prod(int(loop.extent) for loop in nest.loops)
    domain = [(int(v.dom.min), int(v.dom.extent)) for v in nest.block.iter_vars]
    size = math.prod(extent for _, extent in domain)
    if max(count, size) > MOST_ITERATIONS:
        raise Refused(f"{max(count, size)} iterations are too many to look at each")
    spatial, reduced, thread = _positions(nest, count, domain)
    whole = spatial * max(math.prod(e for v, (_, e) in _of(nest, domain) if is_reduction(v)), 1) + reduced
    run = np.zeros(size, bool)
    run[whole] = True
    if len(whole) != size or not run.all():
        raise Refused("its binding is no bijection: an iteration is run twice, or never")
    if not any(map(is_reduction, nest.block.iter_vars)):
        return
    order = np.argsort(spatial, kind="stable")
    same = spatial[order][1:] == spatial[order][:-1]
    if (same & (thread[order][1:] != thread[order][:-1])).any():
        raise Refused("threads reduce together")
    if (same & (reduced[order][1:] <= reduced[order][:-1])).any():
        raise Refused("its reduction runs in another order than its domain's")


def _of(nest: Nest, domain: Sequence[tuple[int, int]]) -> list[tuple[Any, tuple[int, int]]]:
    return list(zip(nest.block.iter_vars, domain, strict=True))


def _positions(nest: Nest, count: int, domain: Sequence[tuple[int, int]]) -> tuple[Values, Values, Values]:
    """The position among the spatial iterations, that among those of the reduction, and the thread, of every iteration
    that the loops run, in their order."""
    points = np.arange(count, dtype=np.int64)
    values: dict[Any, Values] = {}
    thread = np.zeros(count, np.int64)
    step = count
    for loop in nest.loops:
        step //= max(int(loop.extent), 1)
        at = points // max(step, 1) % max(int(loop.extent), 1)
        values[loop.loop_var] = at + int(loop.min)
        if loop.thread_binding is not None:
            thread = thread * int(loop.extent) + at
    try:
        run = np.broadcast_to(evaluate(nest.realize.predicate, values)[:, 0] != 0, (count,))
        bound = [np.broadcast_to(evaluate(e, values)[:, 0], (count,)) for e in nest.realize.iter_values]
    except Unknown as error:
        raise Refused(f"a binding with {error}") from error
    positions = {False: np.zeros(count, np.int64), True: np.zeros(count, np.int64)}
    for (iteration, (least, extent)), value in zip(_of(nest, domain), bound, strict=True):
        kind = is_reduction(iteration)
        if ((value < least) | (value >= least + extent))[run].any():
            raise Refused("its binding leaves the block's domain")
        positions[kind] = positions[kind] * extent + value - least
    return positions[False][run], positions[True][run], thread[run]


def with_statements(function: tirx.PrimFunc, changed: Mapping[int, Any]) -> tirx.PrimFunc:
    """The program with other statements in place of some of its root block's."""
    root = function.body.block
    parts = [changed.get(number, statement) for number, statement in enumerate(statements(function))]
    body = parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)
    block = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, body, root.init, root.alloc_buffers,
        root.match_buffers, root.annotations,
    )  # fmt: skip
    return function.with_body(SBlockRealize([], True, block))


def reuses(function: tirx.PrimFunc) -> bool:
    """Whether a reduction of an unscheduled program reads elements for more than one result, as products and
    convolutions do: TVM's rules tile those and stage their operands."""
    for block in nodes(function.body, SBlock):
        spatial = [v.var for v in block.iter_vars if not is_reduction(v) and int(v.dom.extent) > 1]
        if len(spatial) == len(block.iter_vars):
            continue
        for store in nodes(block.body, tirx.BufferStore):
            read = [load for load in loads(store.value) if not load.source.same_as(store.buffer)]
            used = [[part for index in load.indices for part in subexpressions(index)] for load in read]
            if any(not any(_is(part, v) for part in parts) for parts in used for v in spatial):
                return True
    return False
