"""Loops over the same iterations as one loop, so that what one makes is used while it is in a cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tvm
import tvm_ffi
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import nbytes, nodes
from kernels.nests.dependences import accesses, available, meet_only_in_same_iteration
from kernels.nests.linear import substituted, uses
from kernels.nests.nest import Refused, nest_of, ordered
from kernels.nests.plain import counts_from_zero, plain, sequence, serial, with_body
from kernels.nests.vectors import vector_axis
from kernels.passes.base import Documentation, Example, Pass, Requirement

_ON_STACK = 512
"""Bytes of a buffer that TVM puts on the stack in any case; from 1024 on it asks the runtime for memory."""

_LEAST_CHUNKS = 8
"""Parts of a parallel loop that allocates memory, so that threads have about equal numbers of them."""

_WIDTH = 64
"""The vectors that are expected: the first of `Lanes`."""

_COUNTED = (tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL)


@dataclass(frozen=True)
class Fuse(Pass):
    """Make one loop of neighbouring loops over the same iterations, and keep of their tensors what an iteration needs.

    Two loops are fused where every element that one writes and the other touches is touched in iterations of one
    number, by exact dependences; then the loop around both may be parallel as well. A loop inside of a nest whose order
    is free may come outermost for that. It pays where the second reads what the first has written or read: a row of
    softmax, a channel of a normalization.
    """

    name: ClassVar[str] = "fuse"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement(
                "what one loop writes and the other touches, both touch in the same iteration",
                "relations of iterations and elements, composed by the integer set library; conditions count as true, "
                "and an index that is not affine as any",
            ),
            Requirement(
                "a loop that comes outermost may", "the nest is a reduction or element by element, and no element twice"
            ),
            Requirement("no effects beside loads and stores", "kinds of statements and effects of calls (TVM's)"),
        ),
        options={"on": "1 fuses neighbouring loops wherever that is right and they share a tensor"},
        counters={
            "loops": "of the program",
            "intermediate bytes": "of buffers that hold more than one iteration needs",
        },
        loses="Where an iteration's part of all tensors is larger than the caches, so that only registers are lost.",
        elsewhere="Halide `compute_at`, MLIR `affine-loop-fusion`, TVM `compute_at`, XLA multi-output fusion",
        example=Example(examples.centred, examples.untouched, "fuse{on=0}", "fuse{on=1}"),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "llvm" and available() else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return available() and _fuses(module["main"])

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on:
            return ""
        if not available():
            return "dependences are not known: islpy is not installed (the extra `llvm` has it)"
        return "" if _fuses(function) else "no neighbouring loops over the same iterations share a tensor"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        body = plain(function).body
        buffers = [allocation.buffer for allocation in nodes(body, tirx.AllocBuffer)]
        return {"loops": len(nodes(body, tirx.For)), "intermediate bytes": sum(map(nbytes, buffers))}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        if not self.on:
            return function
        return _result(function)


@functools.lru_cache(maxsize=8)
def _result(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """A function with its loops fused; the plain function itself where none are. It is asked for twice: to know whether
    anything is fused, and then for the program."""
    lowered = plain(function)
    body = _fused(lowered.body)
    if len(nodes(body, tirx.For)) == len(nodes(lowered.body, tirx.For)):
        return lowered
    return lowered.with_body(_contracted(body))


def _fuses(function: tirx.PrimFunc) -> bool:
    return not _result(function).same_as(plain(function))


def _inner(statement: Any) -> Any | None:
    """The loop of a statement, inside of attributes that only steer unrolling; None where it is no loop from zero."""
    while isinstance(statement, tirx.AttrStmt) and str(statement.attr_key).startswith("pragma_"):
        statement = statement.body
    counted = isinstance(statement, tirx.For) and statement.kind in _COUNTED and counts_from_zero(statement)
    return statement if counted else None


def _fused(statement: Any) -> Any:
    """A statement whose neighbouring loops are fused as far as that is right and of use, also inside of one another."""
    if isinstance(statement, tirx.AttrStmt):
        return tirx.AttrStmt(statement.node, statement.attr_key, statement.value, _fused(statement.body))
    if isinstance(statement, tirx.For):
        body = _fused(statement.body)
        return statement if body.same_as(statement.body) else with_body(statement, body)
    if not isinstance(statement, tirx.SeqStmt):
        return statement
    allocations = [part for part in statement.seq if isinstance(part, tirx.AllocBuffer)]
    parts: list[Any] = []
    for part in (part for part in statement.seq if not isinstance(part, tirx.AllocBuffer)):
        merged = _merged(parts[-1], part) if parts else None
        if merged is None:
            parts.append(part)
        else:
            parts[-1] = merged
    return sequence([*allocations, *(_fused(part) for part in parts)])


def _merged(first: Any, second: Any) -> Any | None:
    """One loop of two; None where that is not right, or of no use."""
    one, other = _inner(first), _inner(second)
    if one is None or other is None:
        return None
    try:
        if not _shared(one, other) or _is_for_vectors(one):
            return None
        for candidate in (c for c in _outermost(other, int(one.extent)) if not _is_for_vectors(c)):
            parallel = tirx.ForKind.PARALLEL in (one.kind, candidate.kind)
            if parallel and not (_is_parallel(one) and _is_parallel(candidate)):
                continue
            if meet_only_in_same_iteration(one, candidate):
                body = substituted(candidate.body, {candidate.loop_var: one.loop_var})
                kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
                return tirx.For(one.loop_var, one.min, one.extent, kind, sequence([one.body, body]))
    except Refused:
        pass
    return None


def _is_parallel(loop: Any) -> bool:
    """Whether a loop is parallel, or may be: its iterations do not depend on one another."""
    return loop.kind == tirx.ForKind.PARALLEL or meet_only_in_same_iteration(loop, loop)


def _is_for_vectors(loop: Any) -> bool:
    """Whether a loop begins a reduction that `Lanes` would make vectors of along this loop, when it is left alone."""
    try:
        nest = nest_of(loop)
    except Refused:
        return False
    if not nest.combiner:
        return False
    try:
        return any(loop.same_as(other) for other in nest.reduced) or bool(vector_axis(nest, _WIDTH).same_as(loop))
    except Refused:
        return False


def _outermost(loop: Any, extent: int) -> Sequence[Any]:
    """The loop, and its nest with other loops outermost, as far as they have so many iterations."""
    found = [loop] if int(loop.extent) == extent else []
    try:
        nest = nest_of(loop)
    except Refused:
        return found
    parallel = loop.kind == tirx.ForKind.PARALLEL
    inner = [other for other in nest.spatial if not other.same_as(loop) and int(other.extent) == extent]
    return [*found, *(ordered(nest, other, parallel) for other in inner)]


def _shared(one: Any, other: Any) -> bool:
    """Whether the second loop touches anything that the first does."""
    touched = [access.buffer for access in accesses(one)]
    return any(access.buffer.same_as(buffer) for access in accesses(other) for buffer in touched)


def _contracted(statement: Any) -> Any:
    """A statement whose buffers have no axis along which every iteration of a loop uses an element of its own; they
    are allocated inside of that loop."""
    if isinstance(statement, tirx.AttrStmt):
        return tirx.AttrStmt(statement.node, statement.attr_key, statement.value, _contracted(statement.body))
    if isinstance(statement, tirx.For):
        return with_body(statement, _contracted(statement.body))
    if not isinstance(statement, tirx.SeqStmt):
        return statement
    parts = list(statement.seq)
    for allocation in [part for part in parts if isinstance(part, tirx.AllocBuffer)]:
        users = [n for n, part in enumerate(parts) if part is not allocation and uses(part, allocation.buffer)]
        inside = _inside(parts[users[0]], allocation.buffer) if len(users) == 1 else None
        if inside is not None:
            parts[users[0]] = inside
            parts.remove(allocation)
    return sequence([_contracted(part) for part in parts])


def _inside(loop: Any, buffer: Any) -> Any | None:
    """A loop that allocates a buffer itself, without the axes along which each iteration has its own part; None where
    there are none."""
    if not isinstance(loop, tirx.For):
        return None
    try:
        touched = [access.indices for access in accesses(loop) if access.buffer.same_as(buffer)]
    except Refused:
        return None
    own = [axis for axis, own in enumerate(zip(*touched, strict=True)) if all(i.same_as(loop.loop_var) for i in own)]
    if not own:
        return None
    shape = [1 if axis in own else extent for axis, extent in enumerate(buffer.shape)]
    smaller = tirx.decl_buffer(shape, buffer.dtype, buffer.name, scope=buffer.scope())

    def indices(old: Any) -> list[Any]:
        return [tirx.const(0, "int32") if axis in own else index for axis, index in enumerate(old)]

    def load(node: Any) -> Any:
        return tirx.BufferLoad(smaller, indices(node.indices)) if node.source.same_as(buffer) else node

    def store(node: Any) -> Any:
        return tirx.BufferStore(smaller, node.value, indices(node.indices)) if node.buffer.same_as(buffer) else node

    body = tvm_ffi.structural_map(loop.body, [(tvm.ir.TensorLoad, load), (tirx.BufferStore, store)])
    if loop.kind != tirx.ForKind.PARALLEL or nbytes(smaller) <= _ON_STACK:
        return with_body(loop, sequence([tirx.AllocBuffer(smaller), body]))
    return _in_chunks(loop, tirx.AllocBuffer(smaller), body)


def _in_chunks(loop: Any, allocation: Any, body: Any) -> Any | None:
    """A parallel loop in chunks, each of which allocates once; None where its iterations are too few for chunks."""
    extent = int(loop.extent)
    count = next((n for n in range(_LEAST_CHUNKS, extent // 2 + 1) if extent % n == 0), None)
    if count is None:
        return None
    dtype = str(loop.loop_var.ty.dtype)
    chunk, one = (tirx.Var(f"{loop.loop_var.name}_{name}", dtype) for name in ("chunk", "one"))
    index = chunk * tirx.const(extent // count, dtype) + one
    inner = serial(one, extent // count, substituted(body, {loop.loop_var: index}))
    return serial(chunk, count, sequence([allocation, inner]), tirx.ForKind.PARALLEL)
