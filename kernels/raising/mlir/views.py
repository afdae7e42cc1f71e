"""Operations that make memory, or another view of it: of memref and tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from xdsl.ir import Operation, SSAValue

from kernels.raising.mlir.buffers import Buffer, dense, kind_of, shape_of
from kernels.raising.mlir.code import Words
from kernels.raising.mlir.operations import Operations
from kernels.raising.reasons import Abstained, Reason


class _Views:
    def __init__(self, ops: Operations) -> None:
        self.ops, self.code = ops, ops.code

    # --- memory

    def empty(self, op: Any) -> None:
        self.ops.values[op.results[0]] = self.ops.fresh(op.results[0], self._sizes(op.results[0], op.operands))

    def alloc(self, op: Any) -> None:
        sizes = self._sizes(op.results[0], op.dynamic_sizes)
        kind = kind_of(op.results[0].type.get_element_type())
        if self.code.depth:
            raise Abstained(Reason.POINTER, "memory that is made inside a loop")
        pointer = self.ops.allocated(sizes, kind)
        if op.name == "memref.alloca":
            self.ops.made.append(pointer)
        self.ops.values[op.results[0]] = dense(self.code, pointer, sizes, kind)

    def dealloc(self, op: Operation) -> None:
        self.code.do(f"call void @free(ptr {self.ops.buffer(op.operands[0]).pointer})")

    def splat(self, op: Any) -> None:
        target = self.ops.fresh(op.results[0], self._sizes(op.results[0], op.operands[1:]))
        self.ops.fill(target, self.ops.word(op.operands[0]))
        self.ops.values[op.results[0]] = target

    def _sizes(self, value: SSAValue, dynamic: Sequence[SSAValue]) -> list[Words]:
        rest = iter(dynamic)
        return [self.ops.word(next(rest)) if extent < 0 else str(extent) for extent in shape_of(value.type) or ()]

    def copy(self, op: Operation) -> None:
        self.ops.copy(*map(self.ops.buffer, op.operands))

    def pad(self, op: Any) -> None:
        source = self.ops.buffer(op.source)
        low, high = self.ops.mixed(op.static_low, op.low), self.ops.mixed(op.static_high, op.high)
        parts = zip(low, source.sizes, high, strict=True)
        target = self.ops.fresh(op.results[0], [self.code.add(self.code.add(a, b), c) for a, b, c in parts])
        last = op.region.block.last_op

        def element(at: Sequence[Words]) -> None:
            [value] = self.ops.inline(op.region, at)
            target.store(self.code, value, at)

        if last is None or not last.operands:
            raise Abstained(Reason.UNREAD, "padding with nothing")
        self.ops.nest(target.sizes, element)
        inside = target.part(self.code, low, source.sizes, ["1"] * len(low), range(len(low)))
        self.ops.copy(source, inside)
        self.ops.values[op.results[0]] = target

    # --- views

    def dim(self, op: Any) -> None:
        index = self.ops.word(op.operands[1])
        sizes = self.ops.buffer(op.operands[0]).sizes
        if not index.isdigit() or int(index) >= len(sizes):
            raise Abstained(Reason.UNREAD, "the extent of a dimension that is not known")
        self.ops.values[op.results[0]] = sizes[int(index)]

    def same(self, op: Operation) -> None:
        source = self.ops.buffer(op.operands[0])
        extents = shape_of(op.results[0].type)
        if extents is None or len(extents) != len(source.sizes):
            raise Abstained(Reason.TYPE, f"the operation {op.name}")
        sizes = tuple(s if extent < 0 else str(extent) for s, extent in zip(source.sizes, extents, strict=True))
        self.ops.values[op.results[0]] = replace(source, sizes=sizes, owned=False)

    def window(self, op: Any) -> None:
        self.ops.values[op.results[0]] = self._part(op, self.ops.buffer(op.source), op.results[0])

    def insert(self, op: Any) -> None:
        source, target = self.ops.buffer(op.source), self.ops.over(op.dest, op.results[0])
        self.ops.copy(source, self._part(op, target, op.source))
        self.ops.values[op.results[0]] = target

    def _part(self, op: Any, whole: Buffer, like: SSAValue) -> Buffer:
        """The window that an operation names, with the rank of another value: extents of 1 may be left out."""
        lists = ((op.static_offsets, op.offsets), (op.static_sizes, op.sizes), (op.static_strides, op.strides))
        offsets, sizes, steps = (self.ops.mixed(static, dynamic) for static, dynamic in lists)
        wanted = len(shape_of(like.type) or ())
        ones = [position for position, size in enumerate(sizes) if size == "1"]
        gone = len(sizes) - wanted
        if gone and gone != len(ones):
            raise Abstained(Reason.UNREAD, "a window whose dimensions are not clear")
        kept = [position for position in range(len(sizes)) if not gone or position not in ones]
        return whole.part(self.code, offsets, sizes, steps, kept)

    def collapse(self, op: Any) -> None:
        source = self.ops.buffer(op.src)
        if not source.compact:
            raise Abstained(Reason.SUBSCRIPT, "dimensions of a window made one")
        sizes, strides = [], []
        for group in _groups(op):
            size = "1"
            for dimension in group:
                size = self.code.multiply(size, source.sizes[dimension])
            sizes.append(size)
            strides.append(source.strides[group[-1]] if group else "1")
        self.ops.values[op.results[0]] = replace(source, sizes=tuple(sizes), strides=tuple(strides), owned=False)

    def expand(self, op: Any) -> None:
        source = self.ops.buffer(op.src)
        sizes = self.ops.mixed(op.static_output_shape, list(op.operands)[1:])
        strides = ["1"] * len(sizes)
        for group, stride in zip(_groups(op), source.strides, strict=True):
            for dimension in reversed(group):
                strides[dimension] = stride
                stride = self.code.multiply(stride, sizes[dimension])
        self.ops.values[op.results[0]] = replace(source, sizes=tuple(sizes), strides=tuple(strides), owned=False)


def _groups(op: Any) -> list[list[int]]:
    return [[int(number.value.data) for number in group] for group in op.reassociation]


def handlers(ops: Operations) -> dict[str, Callable[[Any], None]]:
    """By the names of operations."""
    views = _Views(ops)
    return {
        "tensor.empty": views.empty, "tensor.splat": views.splat, "memref.alloc": views.alloc,
        "memref.alloca": views.alloc, "memref.dealloc": views.dealloc, "memref.copy": views.copy,
        "tensor.pad": views.pad, "memref.dim": views.dim, "tensor.dim": views.dim, "memref.cast": views.same,
        "tensor.cast": views.same, "memref.subview": views.window, "tensor.extract_slice": views.window,
        "tensor.insert_slice": views.insert, "memref.collapse_shape": views.collapse,
        "tensor.collapse_shape": views.collapse, "memref.expand_shape": views.expand,
        "tensor.expand_shape": views.expand,
    }  # fmt: skip
