"""Evaluates reduction blocks: sums of products by BLAS, other combiners by numpy, the rest step by step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from kernels.reference.blocks import LeafBlock
from kernels.reference.contract import contract
from kernels.reference.domain import Array, Domain, NeedSplit, NotAffine, Range, Unsupported, chunks
from kernels.reference.dtypes import EPSILON, is_float, storage_dtype
from kernels.reference.expressions import Scope, dtype_of, loads_from, subexpressions, write

MAX_STEPS = 1 << 16
"""Python steps for one reduction that numpy has no operation for, e.g. an argmax over a vocabulary."""

_COMBINERS: Mapping[type, Any] = {
    tirx.Add: np.add, tirx.Mul: np.multiply, tirx.Max: np.maximum, tirx.Min: np.minimum,
    tirx.And: np.logical_and, tirx.Or: np.logical_or,
}  # fmt: skip


def run_reduction(block: LeafBlock, arrays: Mapping[Any, Array]) -> None:
    """Evaluate a reduction block and write its outputs into `arrays`. Raises Unsupported where there is no rule."""
    if not all(isinstance(s, tirx.BufferStore) for s in block.init):
        raise Unsupported("an initial value that is more than stores")
    element = {s.buffer: s.indices for s in block.init}
    loads = [e for s in block.body for e in subexpressions(s.value) if isinstance(e, tvm.ir.TensorLoad)]
    touched = [(e.source, e.indices) for e in loads if e.source in element]
    touched += [(s.buffer, s.indices) for s in block.stores]
    if not all(b in element and tvm_ffi.structural_equal(element[b], indices) for b, indices in touched):
        raise Unsupported("a reduction that reads or writes another element of its output")
    term = _term(block)
    if term is None:
        _fold(block, arrays)
        return
    factors = _factors(term)
    if isinstance(block.stores[0].value, tirx.Add) and len(factors) > 1:
        domain = _split_for(factors, block.domain)
        _accumulate(LeafBlock(domain, block.init, block.body), arrays, factors)
    else:
        _accumulate(block, arrays, [term])


def _term(block: LeafBlock) -> Any | None:
    """The term of a block `out = combine(out, term)`; None when it has another form."""
    if len(block.body) != 1 or type(block.body[0].value) not in _COMBINERS:
        return None
    store = block.body[0]
    for accumulator, term in ((store.value.a, store.value.b), (store.value.b, store.value.a)):
        if isinstance(accumulator, tvm.ir.TensorLoad) and accumulator.source.same_as(store.buffer):
            return None if loads_from(term, [store.buffer]) else term
    return None


def _factors(term: Any) -> list[Any]:
    """The factors of a product, without casts that only widen."""
    if isinstance(term, tirx.Mul):
        return _factors(term.a) + _factors(term.b)
    if isinstance(term, tirx.Cast) and isinstance(term.value, tvm.ir.TensorLoad) and _widens(term):
        return [term.value]
    return [term]


def _widens(cast: Any) -> bool:
    source, result = dtype_of(cast.value), dtype_of(cast)
    if is_float(source) and is_float(result):
        return EPSILON[result] < EPSILON[source]
    return not is_float(result) and bool(np.can_cast(storage_dtype(source), storage_dtype(result), "safe"))


def _split_for(factors: Sequence[Any], domain: Domain) -> Domain:
    """The domain cut so that as many loads as possible are affine."""
    indices = [i for f in factors if isinstance(f, tvm.ir.TensorLoad) for i in f.indices]
    position = 0
    while position < len(indices):
        try:
            domain.linear(indices[position])
            position += 1
        except NotAffine:
            position += 1
        except NeedSplit as need:
            domain = domain.split(need.atom, need.factor)
    return domain


def _accumulate(block: LeafBlock, arrays: Mapping[Any, Array], factors: Sequence[Any]) -> None:
    """`out = combine(out, product of factors)` over the reduction, chunk by chunk."""
    domain, store = block.domain, block.stores[0]
    combine = _COMBINERS[type(store.value)]
    spatial = domain.spatial
    ranges = domain.full()
    whole = Scope(arrays, domain, _first(ranges, spatial), domain.indices(_first(ranges, spatial)))
    start = np.broadcast_to(whole.value(block.init[0].value), whole.shape)
    total = np.array(start, dtype=storage_dtype(str(store.buffer.dtype)))
    everywhere = [True] * len(domain.atoms)
    groups = [_extends(f, domain) for f in factors] if len(factors) > 1 else [everywhere]
    for ranges in chunks(domain, groups):
        scope = Scope(arrays, domain, ranges, domain.indices(ranges))
        if len(factors) > 1:
            partial = _product(scope, factors, spatial, total.dtype)
        else:
            terms = np.broadcast_to(scope.value(factors[0]), scope.shape)
            partial = combine.reduce(terms, axis=tuple(range(spatial, len(domain.atoms))), keepdims=True)
        here = tuple(slice(low, high) for low, high in ranges[:spatial])
        total[here] = combine(total[here], partial)
    write(whole, store, total)


def _first(ranges: Sequence[Range], spatial: int) -> tuple[Range, ...]:
    """The spatial ranges, with every reduction at its first step."""
    return tuple(r if axis < spatial else (0, 1) for axis, r in enumerate(ranges))


def _extends(expr: Any, domain: Domain) -> list[bool]:
    """The axes an expression varies along."""
    used = [e for e in subexpressions(expr) if isinstance(e, tirx.Var)]
    if isinstance(expr, tvm.ir.TensorLoad) and len(expr.indices) > 0:
        try:
            forms = [domain.linear(i)[0] for i in expr.indices]
            return [any(column) for column in zip(*forms, strict=True)]
        except (NotAffine, NeedSplit):
            pass
    return [any(a.var.same_as(v) for v in used) for a in domain.atoms]


def _product(scope: Scope, factors: Sequence[Any], spatial: int, dtype: np.dtype[Any]) -> Array:
    """Sum over the reduction axes of a product of factors, as a matrix product."""
    operands = [scope.raw(f) if isinstance(f, tvm.ir.TensorLoad) else scope.value(f) for f in factors]
    operands.sort(key=lambda x: x.size)
    while len(operands) > 2:
        operands = sorted([operands[0] * operands[1].astype(np.float64), *operands[2:]], key=lambda x: x.size)
    steps = math.prod(scope.shape[spatial:])
    if dtype.kind == "f":
        return contract(operands[0], operands[1], scope.shape, spatial, np.dtype(np.float64))
    bound = steps * math.prod(int(np.abs(x.astype(np.float64)).max()) for x in operands)
    exact = np.dtype(np.float64 if bound < 2**53 else np.int64)
    return contract(operands[0], operands[1], scope.shape, spatial, exact).astype(np.int64).astype(dtype)


def _fold(block: LeafBlock, arrays: Mapping[Any, Array]) -> None:
    """Any other reduction (tuples, say): one step after another, each over the whole spatial domain."""
    domain = block.domain
    spatial = domain.spatial
    steps = [range(a.extent) for a in domain.atoms[spatial:]]
    if math.prod(map(len, steps)) > MAX_STEPS:
        raise Unsupported(f"a reduction of another form with more than {MAX_STEPS} steps")
    ranges = _first(domain.full(), spatial)
    scope = Scope(arrays, domain, ranges, domain.indices(ranges))
    state = {s.buffer: np.broadcast_to(scope.value(s.value), scope.shape) for s in block.init}
    for step in itertools.product(*steps):
        ranges = (*ranges[:spatial], *((i, i + 1) for i in step))
        scope = Scope(arrays, domain, ranges, domain.indices(ranges), state)
        state = dict(state)
        for statement in block.body:
            value = scope.value(statement.value)
            if isinstance(statement, tirx.Bind):
                scope = scope.bind(statement.var, value)
            else:
                state[statement.buffer] = np.broadcast_to(value, scope.shape)
                scope = Scope(arrays, domain, ranges, scope.env, state)
    for store in block.stores:
        write(scope, store, state[store.buffer])
