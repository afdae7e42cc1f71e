"""Statements that must stay in order, as one TensorIR function: the loops of the source, as they are.

Loops whose iterations do not depend on each other are the axes of a block, which may be tiled, divided among threads
and turned into vectors. The other loops are inside of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx

from kernels.raising.access import Normal
from kernels.raising.bodies import Body
from kernels.raising.memory import CELL
from kernels.raising.ops import Operation, elements
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import DTYPES
from kernels.raising.shapes import Shapes
from kernels.raising.sizes import Sized
from kernels.raising.tensor_operators import bounds, box_text, membership

_SPATIAL = 0
"""The type of a block's axis whose iterations are independent."""


@dataclass(frozen=True)
class _Memory:
    """A buffer as the tensors of `Body` are read."""

    buffer: Any

    def __call__(self, *at: Any) -> Any:
        return tirx.BufferLoad(self.buffer, list(at))

    def __getitem__(self, at: int) -> Any:
        return self(index_of(at))


def index_of(value: int) -> Any:
    """A number as an index is."""
    return tirx.const(value, "int32")


class ExactLoops:
    """The function of an operation with `steps`. It takes `inputs`, by the names of arrays and scalars, and writes
    `outputs`, whole."""

    def __init__(
        self, op: Operation, sized: Sized, shapes: Shapes, earlier: Collection[str], later: Collection[str]
    ) -> None:
        """`earlier`: arrays that have a content; a cell that is not among them is written here before it is read.
        `later`: arrays that are read afterwards, or belong to the caller. Raises Abstained."""
        self._op, self._sized, self._shapes = op, sized, shapes
        self._domains = [sized.at(step.domain) for step in op.steps]
        read = {e.base for e in op.reads}
        self._local = tuple(
            b for b in op.written
            if b.startswith(CELL) and self._is_of_one_iteration(b) and (b not in later or shapes.is_whole(op, b))
        )  # fmt: skip
        self._updated = tuple(
            b for b in op.written if b not in self._local and (b in read or not shapes.is_whole(op, b))
        )
        self.outputs = tuple(b for b in op.written if b not in self._local or b in later)
        old = [b for b in (*self._local, *self._updated) if not self._begins(b)]
        old = [b for b in old if b in earlier or not b.startswith(CELL)]
        self.inputs = tuple(dict.fromkeys([*(b for b in read if b not in op.written), *scalars(op), *old]))

    def _begins(self, base: str) -> bool:
        """Whether the operation says itself what a cell begins with."""
        return self._op.start is not None and base.startswith(CELL)

    def _is_of_one_iteration(self, base: str) -> bool:
        """Whether an iteration of the free loops has one element of an array for itself."""
        used = [e for s in self._op.steps for e in (s.target, *elements(s.value)) if e.base == base]
        return len({e.subscripts for e in used}) == 1 and all(
            any(p == Poly.of(c) for c in self._op.free) for p in used[0].subscripts
        )

    def function(self, kinds: Mapping[str, str]) -> Any:
        """The function; `kinds` are the dtypes of arrays and scalars by name. Raises Abstained."""
        shapes = {name: self._shapes.of.get(name, (1,)) for name in (*self.inputs, *self.outputs)}
        given = {name: tirx.decl_buffer(shapes[name], kinds[name], f"given{k}") for k, name in enumerate(self.inputs)}
        made = {name: tirx.decl_buffer(shapes[name], kinds[name], f"made{k}") for k, name in enumerate(self.outputs)}
        local = {name: tirx.decl_buffer((1,), kinds[name], f"local{k}") for k, name in enumerate(self._local)}
        tensors = {name: _Memory(b) for name, b in {**given, **made, **local}.items()}
        copies = [_copied(given[name], made[name]) for name in self._updated if name in given]
        buffers = [*given.values(), *made.values()]
        body = sequence([*copies, self._block(tensors, given, made, local, buffers)])
        root = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", body))
        return tirx.PrimFunc(buffers, root).with_attr({"s_tir": True, "tirx.noalias": True})

    def _block(
        self, tensors: Mapping[str, _Memory], given: Mapping[str, Any], made: Mapping[str, Any],
        local: Mapping[str, Any], buffers: Sequence[Any],
    ) -> Any:  # fmt: skip
        whole = _union([_onto(d, s.loops, self._op.free) for d, s in zip(self._domains, self._op.steps, strict=True)])
        ranges = {c: bounds(whole, k) for k, c in enumerate(self._op.free)} if not whole.is_empty() else {}
        axes = {c: tirx.Var(f"v_{c}", "int32") for c in self._op.free}
        env = {c: axes[c] + low for c, (low, _) in ranges.items()}
        body = Body(self._op, tensors, self._sized, self._shapes)
        inside = [self._begun(name, env, local[name], given.get(name), body) for name in self._local]
        inside += [sequence(list(self._run(list(enumerate(self._op.steps)), 0, env, ranges, tensors, body)))]
        inside += [
            tirx.BufferStore(made[name], tensors[name](index_of(0)), self._place(name, env))
            for name in self._local
            if name in made
        ]
        extents = {c: high - low + 1 for c, (low, high) in ranges.items()}
        iters = [tirx.IterVar(tvm.ir.Range(0, extent), axes[c], _SPATIAL) for c, extent in extents.items()]
        parts = (iters, "loops", sequence(inside), list(local.values()))
        names = {buffer: buffer for buffer in buffers}
        reads, writes, _ = s_tir.analysis.get_sblock_access_region(
            s_tir.SBlock(parts[0], [], [], parts[1], parts[2], alloc_buffers=parts[3]), names
        )
        block: Any = s_tir.SBlock(parts[0], reads, writes, parts[1], parts[2], alloc_buffers=parts[3])
        counters = [tirx.Var(f"i_{c}", "int32") for c in extents]
        realized: Any = s_tir.SBlockRealize(counters, True, block)
        for counter, extent in reversed(list(zip(counters, extents.values(), strict=True))):
            realized = serial_loop(counter, extent, realized)
        return realized

    def _begun(self, name: str, env: Mapping[str, Any], local: Any, given: Any, body: Body) -> Any:
        """What a local element begins with."""
        if self._begins(name):
            assert self._op.start is not None
            return tirx.BufferStore(local, body.value(self._op.start, env), [index_of(0)])
        if given is None:
            return tirx.BufferStore(local, tirx.const(0, str(local.dtype)), [index_of(0)])
        return tirx.BufferStore(local, tirx.BufferLoad(given, self._place(name, env)), [index_of(0)])

    def _place(self, name: str, env: Mapping[str, Any]) -> list[Any]:
        """The element of a cell that is this iteration's."""
        element = next(s.target for s in self._op.steps if s.target.base == name)
        return [env[symbol] for p in element.subscripts for symbol in p.symbols] or [index_of(0)]

    # --- loops inside

    def _run(
        self, steps: Sequence[tuple[int, Normal]], depth: int, env: Mapping[str, Any],
        ranges: Mapping[str, tuple[int, int]], tensors: Mapping[str, _Memory], body: Body,
    ) -> Iterator[Any]:  # fmt: skip
        """Statements from a depth of their times on, in order. Times are places and loops in turn."""
        here = sorted(steps, key=lambda pair: pair[1].source.target.time[depth])
        for _, group in itertools.groupby(here, lambda pair: pair[1].source.target.time[depth]):
            some = list(group)
            alone = [pair for pair in some if len(pair[1].source.target.time) <= depth + 1]
            deeper = [pair for pair in some if pair not in alone]
            for number, step in alone:
                if not self._domains[number].is_empty():
                    yield self._stored(number, step, env, ranges, tensors, body)
            if not deeper:
                continue
            symbol = str(deeper[0][1].source.target.time[depth + 1])
            deeper = [pair for pair in deeper if not self._domains[pair[0]].is_empty()]
            if not deeper:
                continue
            if symbol in env or (len(deeper) == 1 and symbol in deeper[0][1].once):
                yield from self._run(deeper, depth + 2, env, ranges, tensors, body)
                continue
            if any(symbol not in step.loops for _, step in deeper):
                raise Abstained(Reason.CARRIED, "tiles of iterations that depend on each other", self._op.line)
            counter = tirx.Var(f"k_{symbol}", "int32")
            ends = [bounds(self._domains[number], step.loops.index(symbol)) for number, step in deeper]
            low, high = min(first for first, _ in ends), max(last for _, last in ends)
            inner = self._run(
                deeper, depth + 2, {**env, symbol: counter + low}, {**ranges, symbol: (low, high)}, tensors, body
            )
            yield serial_loop(counter, high - low + 1, sequence(list(inner)))

    def _stored(
        self, number: int, step: Normal, env: Mapping[str, Any], ranges: Mapping[str, tuple[int, int]],
        tensors: Mapping[str, _Memory], body: Body,
    ) -> Any:  # fmt: skip
        base = step.target.base
        at = [body.index(p, env) for p in step.target.subscripts] or [index_of(0)]
        buffer = tensors[base].buffer
        stored: Any = tirx.BufferStore(
            buffer, body.value(step.value, env), [index_of(0)] if base in self._local else at
        )
        box = isl.Set(box_text(step.loops, {c: ranges[c] for c in step.loops}))
        domain = self._domains[number]
        if not box.is_subset(domain):
            stored = tirx.IfThenElse(membership(domain.gist(box), step.loops, env), stored, None)
        return stored


def scalars(op: Operation) -> list[str]:
    """The scalar arguments that an operation uses."""
    parts = [step.value for step in op.steps] or [op.value]
    parts += [p for p in (op.start, op.finish, None if op.choice is None else op.choice.best) if p is not None]
    return list(dict.fromkeys(node.value for part in parts for node in part.walk() if node.op == "param"))


def dtype_of(op: Operation, base: str) -> str:
    """The dtype of an array that an operation writes."""
    return DTYPES[next((step.type for step in op.steps if step.target.base == base), op.type)]


def _onto(domain: isl.Set, loops: Sequence[str], free: Sequence[str]) -> isl.Set:
    """The iterations of the free loops, in their order."""
    return domain.apply(isl.Map(f"{{ [{', '.join(loops)}] -> [{', '.join(free)}] }}"))


def _union(domains: Sequence[isl.Set]) -> isl.Set:
    whole = domains[0]
    for domain in domains[1:]:
        whole = whole.union(domain)
    return whole


def sequence(statements: Sequence[Any]) -> Any:
    """Statements one after another; nothing where there are none."""
    if not statements:
        return tirx.Evaluate(index_of(0))
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def serial_loop(counter: Any, extent: Any, body: Any) -> Any:
    """A loop from zero, of a number of iterations or of as many as an expression says."""
    length = index_of(extent) if isinstance(extent, int) else extent
    return tirx.For(counter, index_of(0), length, tirx.ForKind.SERIAL, body)


def _copied(source: Any, to: Any) -> Any:
    """A block that copies all elements."""
    shape = [int(extent) for extent in source.shape]
    axes = [tirx.Var(f"v{k}", "int32") for k in range(len(shape))]
    counters = [tirx.Var(f"i{k}", "int32") for k in range(len(shape))]
    iters = [tirx.IterVar(tvm.ir.Range(0, n), axis, _SPATIAL) for n, axis in zip(shape, axes, strict=True)]
    store = tirx.BufferStore(to, tirx.BufferLoad(source, axes), axes)
    point = [tvm.ir.Range.from_min_extent(axis, index_of(1)) for axis in axes]
    block = s_tir.SBlock(iters, [tirx.BufferRegion(source, point)], [tirx.BufferRegion(to, point)], "kept", store)
    body: Any = s_tir.SBlockRealize(counters, True, block)
    for counter, extent in reversed(list(zip(counters, shape, strict=True))):
        body = serial_loop(counter, extent, body)
    return body
