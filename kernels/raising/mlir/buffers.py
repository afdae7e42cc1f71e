"""Memrefs and tensors as places in memory: a pointer, an offset, sizes and strides, in elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import builtin
from xdsl.ir import Attribute

from kernels.raising.mlir.code import Code, Words
from kernels.raising.reasons import Abstained, Reason

KINDS = {"f32": "float", "f64": "double", "i1": "i1", "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64",
         "index": "i64"}  # fmt: skip
"""LLVM's types by MLIR's names of the scalar ones that are read."""


@dataclass(frozen=True)
class Buffer:
    """`kind`: LLVM's type of an element. `owned`: nobody else sees it, so it may be overwritten when it is not used
    again. `compact`: rows lie one behind the other."""

    pointer: Words
    offset: Words
    sizes: tuple[Words, ...]
    strides: tuple[Words, ...]
    kind: str
    owned: bool = False
    compact: bool = False

    def element(self, code: Code, indices: Sequence[Words]) -> Words:
        """The address of an element."""
        place = self.offset
        for index, stride in zip(indices, self.strides, strict=True):
            place = code.add(place, code.multiply(index, stride))
        return code.value(f"getelementptr {self.kind}, ptr {self.pointer}, i64 {place}")

    def load(self, code: Code, indices: Sequence[Words]) -> Words:
        return code.value(f"load {self.kind}, ptr {self.element(code, indices)}")

    def store(self, code: Code, value: Words, indices: Sequence[Words]) -> None:
        code.do(f"store {self.kind} {value}, ptr {self.element(code, indices)}")

    def part(
        self, code: Code, offsets: Sequence[Words], sizes: Sequence[Words], steps: Sequence[Words], kept: Sequence[int]
    ) -> Buffer:
        """A window; `kept` are the dimensions that it still has."""
        place = self.offset
        for offset, stride in zip(offsets, self.strides, strict=True):
            place = code.add(place, code.multiply(offset, stride))
        strides = [code.multiply(step, stride) for step, stride in zip(steps, self.strides, strict=True)]
        return Buffer(self.pointer, place, tuple(sizes[k] for k in kept), tuple(strides[k] for k in kept), self.kind)


def kind_of(type_: Attribute) -> str:
    """LLVM's type of a scalar. Raises Abstained."""
    kind = KINDS.get(str(type_))
    if kind is None:
        raise Abstained(Reason.TYPE, f"a value of the type {str(type_)[:40]}")
    return kind


def dense(code: Code, pointer: Words, sizes: Sequence[Words], kind: str, owned: bool = False) -> Buffer:
    """Rows one behind the other."""
    strides = ["1"]
    for size in reversed(sizes[1:]):
        strides.insert(0, code.multiply(strides[0], size))
    return Buffer(pointer, "0", tuple(sizes), tuple(strides[: len(sizes)]), kind, owned, compact=True)


def shape_of(type_: Attribute) -> tuple[int, ...] | None:
    """Extents of a memref or tensor, -1 where dynamic; None for other types."""
    if isinstance(type_, builtin.MemRefType | builtin.TensorType):
        return tuple(type_.get_shape())
    return None


def layout_of(type_: Attribute) -> tuple[int, tuple[int, ...]] | None:
    """Offset and strides that a memref's type states; None for rows one behind the other. Raises Abstained."""
    layout = getattr(type_, "layout", builtin.NoneAttr())
    if isinstance(layout, builtin.NoneAttr):
        return None
    if isinstance(layout, builtin.StridedLayoutAttr):
        offset, strides = layout.get_offset(), layout.get_strides()
        if offset is None or None in strides:
            raise Abstained(Reason.TYPE, "an argument whose strides are not known")
        return offset, tuple(s for s in strides if s is not None)
    if isinstance(layout, builtin.AffineMapAttr) and layout.data == type(layout.data).identity(layout.data.num_dims):
        return None
    raise Abstained(Reason.TYPE, f"a memref with the layout {str(layout)[:40]}")
