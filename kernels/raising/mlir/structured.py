"""Operations of linalg as loops over their index maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xdsl.dialects.builtin import AffineMapAttr, ArrayAttr, DenseArrayBase, DenseIntOrFPElementsAttr
from xdsl.dialects.linalg.ops import GenericOp, IndexOp
from xdsl.ir import Operation, Region, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap

from kernels.raising.mlir import affine
from kernels.raising.mlir.buffers import Buffer, kind_of, shape_of
from kernels.raising.mlir.code import Words
from kernels.raising.mlir.named import NAMED, Named, maps_of
from kernels.raising.mlir.operations import Operations
from kernels.raising.mlir.scalars import body
from kernels.raising.reasons import Abstained, MalformedIr, Reason

_Body = Callable[[Sequence[Words]], Sequence[Words]]
"""Results of the elements of all operands."""


def handlers(ops: Operations) -> dict[str, Callable[[Any], None]]:
    """By the names of operations. They raise Abstained, or MalformedIr where extents contradict each other."""
    words = ("index", "generic", "transpose", "broadcast", "reduce", "map", *NAMED)
    return {f"linalg.{word}": lambda op: _write(ops, op) for word in words}


def _write(ops: Operations, op: Operation) -> None:
    word = op.name.removeprefix("linalg.")
    if isinstance(op, IndexOp):
        ops.values[op.results[0]] = ops.points[-1][op.dim.value.data]
    elif isinstance(op, GenericOp):
        maps = [item.data for item in op.indexing_maps]
        reduced = any("reduction" in str(item.data) for item in op.iterator_types)
        _nest(ops, op, list(op.inputs), list(op.outputs), maps, op.body, _inline(ops, op.body, reduced))
    elif word in NAMED:
        _named(ops, op, NAMED[word])
    else:
        _shaped(ops, op, word)


def _named(ops: Operations, op: Any, named: Named) -> None:
    ins, outs = list(op.ins), list(op.outs)
    strides, dilations = (_numbers(op, key, named.windows) for key in ("strides", "dilations"))
    maps = maps_of(named, len(ins) + len(outs), len(_shape(outs[0])), strides, dilations)
    given = op.attributes.get("indexing_maps")
    if isinstance(given, ArrayAttr):
        maps = [item.data for item in given if isinstance(item, AffineMapAttr)]
    maps = [AffineMap(m.num_dims, 0, ()) if _is_scalar(v) else m for m, v in zip(maps, (*ins, *outs), strict=False)]
    kinds = [kind_of(getattr(value.type, "element_type", value.type)) for value in (*ins, *outs)]
    reduced = named.maps is not None
    _nest(ops, op, ins, outs, maps, None, lambda values: [body(ops.code, named.body, values, kinds, reduced)],
          reads_result=reduced)  # fmt: skip


def _numbers(op: Operation, key: str, count: int) -> list[int]:
    given = op.attributes.get(key)
    if isinstance(given, DenseIntOrFPElementsAttr):
        numbers = [int(number) for number in given.get_values()]
        return numbers * count if len(numbers) == 1 else numbers
    return [1] * count


def _shaped(ops: Operations, op: Any, word: str) -> None:
    """transpose, broadcast, reduce, map: index maps from the lists of dimensions they have."""
    ins, outs = list(op.ins), list(op.outs)
    ranks = [len(_shape(value)) for value in (*ins, *outs)]
    total = max(ranks)
    axes: list[AffineExpr] = [AffineExpr.dimension(k) for k in range(total)]
    if word == "transpose":
        moved = _listed(op, "permutation", total)
        if len(moved) != total or ranks != [total, total]:
            raise MalformedIr(f"{op.name}: the permutation is none of {total} dimensions")
        maps = [AffineMap(total, 0, tuple(axes[moved.index(k)] for k in range(total))), AffineMap.identity(total)]
    elif word == "map":
        maps = [AffineMap.identity(total)] * len(ranks)
    else:
        gone = _listed(op, "dimensions", total)
        rest = AffineMap(total, 0, tuple(axes[k] for k in range(total) if k not in gone))
        whole = AffineMap.identity(total)
        maps = [rest, whole] if word == "broadcast" else [whole] * len(ins) + [rest] * len(outs)
    if word in ("transpose", "broadcast"):
        _nest(ops, op, ins, outs, maps, None, lambda values: [values[0]])
        return
    given = _inline(ops, op.body, word == "reduce")
    if word == "map" and len(op.body.block.args) == len(ins):
        _nest(ops, op, ins, outs, maps, None, lambda values: given(values[: len(ins)]))
    else:
        _nest(ops, op, ins, outs, maps, op.body, given)


def _listed(op: Operation, key: str, rank: int) -> list[int]:
    """Different numbers of dimensions. Raises MalformedIr."""
    given = op.attributes.get(key)
    numbers = [int(number) for number in given.get_values()] if isinstance(given, DenseArrayBase) else None
    if numbers is None or len(set(numbers)) != len(numbers) or not all(0 <= number < rank for number in numbers):
        raise MalformedIr(f"{op.name}: no list of {key}")
    return numbers


def _shape(value: SSAValue) -> tuple[int, ...]:
    return shape_of(value.type) or ()


def _is_scalar(value: SSAValue) -> bool:
    return shape_of(value.type) is None


def _inline(ops: Operations, region: Region, reduced: bool) -> _Body:
    """A region's operations on elements. In a reduction what depends on the result may be reordered: its iterators
    say so."""
    if reduced:
        ops.reassociated |= _depending(region)
    return lambda values: ops.inline(region, values)


def _depending(region: Region) -> set[Operation]:
    block = region.block
    last = block.last_op
    count = len(last.operands) if last is not None else 0
    found: set[Operation] = set()
    values = set(block.args[len(block.args) - count :])
    for op in block.ops:
        if any(operand in values for operand in op.operands):
            found.add(op)
            values |= set(op.results)
    return found


def _nest(
    ops: Operations, op: Operation, ins: Sequence[SSAValue], outs: Sequence[SSAValue], maps: Sequence[AffineMap],
    region: Region | None, made: _Body, reads_result: bool = False,
) -> None:  # fmt: skip
    """A loop for each counter, in order; elements in, elements out. `region`: whose arguments say what is read."""
    if len(maps) != len(ins) + len(outs) or any(m.num_symbols for m in maps):
        raise MalformedIr(f"line {ops.code.line}:1: {op.name}: not an index map for each operand")
    sources = [None if _is_scalar(value) else ops.buffer(value) for value in ins]
    used = [True] * len(ins) + [reads_result] * len(outs)
    if region is not None:
        used = [argument.first_use is not None for argument in region.block.args]
    results = list(op.results)
    targets = [
        ops.over(value, results[k], used[len(ins) + k]) if results else ops.buffer(value)
        for k, value in enumerate(outs)
    ]
    buffers = [*sources, *targets]
    _check(ops, op, buffers, maps)
    sizes = [_extent(counter, buffers, maps) for counter in range(maps[0].num_dims if maps else 0)]

    def element(at: Sequence[Words]) -> None:
        ops.points.append(at)
        values = []
        for value, buffer, map_, is_used in zip((*ins, *outs), buffers, maps, used, strict=True):
            if buffer is None:
                values.append(ops.word(value))
            else:
                values.append(buffer.load(ops.code, affine.results(ops.code, map_, at)) if is_used else "undef")
        for buffer, map_, word in zip(targets, maps[len(ins) :], made(values), strict=True):
            buffer.store(ops.code, word, affine.results(ops.code, map_, at))
        ops.points.pop()

    ops.nest(sizes, element)
    ops.values |= dict(zip(results, targets, strict=False))


def _extent(counter: int, buffers: Sequence[Buffer | None], maps: Sequence[AffineMap]) -> Words:
    """From the first operand that has the counter as a subscript."""
    for buffer, map_ in zip(buffers, maps, strict=True):
        for dimension, expr in enumerate(map_.results if buffer is not None else ()):
            if buffer is not None and isinstance(expr, AffineDimExpr) and expr.position == counter:
                return buffer.sizes[dimension]
    raise Abstained(Reason.SUBSCRIPT, "a loop whose extent no operand says")


def _check(ops: Operations, op: Operation, buffers: Sequence[Buffer | None], maps: Sequence[AffineMap]) -> None:
    """Raises MalformedIr where constants show that an element lies outside of its operand."""
    where = f"line {ops.code.line}:1: {op.name}"
    for number, (buffer, map_) in enumerate(zip(buffers, maps, strict=True)):
        if buffer is not None and len(map_.results) != len(buffer.sizes):
            raise MalformedIr(f"{where}: operand {number} has {len(buffer.sizes)} dimensions, {len(map_.results)} "
                              "are indexed")  # fmt: skip
    sizes = [_extent(counter, buffers, maps) for counter in range(maps[0].num_dims if maps else 0)]
    if not all(size.isdigit() for size in sizes):
        return
    last = [max(int(size) - 1, 0) for size in sizes]
    for number, (buffer, map_) in enumerate(zip(buffers, maps, strict=True)):
        for expr, size in zip(map_.results, buffer.sizes if buffer is not None else (), strict=True):
            reached = expr.eval(last, []) + 1
            exact = isinstance(expr, AffineDimExpr)
            if size.isdigit() and (reached > int(size) or (exact and sizes[expr.position] != size)):  # type: ignore[attr-defined]
                raise MalformedIr(f"{where}: operand {number} has the extent {size}, {reached} are indexed")
