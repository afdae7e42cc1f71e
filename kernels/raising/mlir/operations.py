"""Operations of memref, tensor, affine and scf, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseArrayBase, DenseIntOrFPElementsAttr
from xdsl.ir import Block, Operation, Region, SSAValue

from kernels.raising.mlir import affine
from kernels.raising.mlir.buffers import Buffer, dense, kind_of, shape_of
from kernels.raising.mlir.code import Code, Words
from kernels.raising.mlir.scalars import number, scalar
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import size_of

DYNAMIC = -(1 << 63)
"""What stands in a list of numbers for an operand."""


_ENDS = (".yield", ".return", ".condition", ".reduce")


class Operations:
    """Writes operations. `values`: what SSA values are. `handlers`: what writes an operation, by name. `outputs`: the
    pointers of results; `homes`: which of them a tensor may be made in. `made`: memory to give back. `reassociated`:
    float operations whose order does not matter. `points`: the counters of linalg around."""

    def __init__(self, code: Code, lines: Mapping[Operation, int], homes: Mapping[SSAValue, int]) -> None:
        self.code = code
        self.values: dict[SSAValue, Words | Buffer] = {}
        self.outputs: list[Words] = []
        self.made: list[Words] = []
        self.reassociated: set[Operation] = set()
        self.points: list[Sequence[Words]] = []
        self._lines, self._homes = lines, homes
        self.handlers: dict[str, Callable[[Any], None]] = _own(self)

    def block(self, block: Block) -> Operation | None:
        """Write all operations but the last, which is returned."""
        for op in block.ops:
            if op.next_op is not None or not op.name.endswith(_ENDS):
                self.run(op)
        return block.last_op

    def run(self, op: Operation) -> None:
        """Raises Abstained."""
        self.code.line = self._lines.get(op, self.code.line)
        try:
            self._run(op)
        except Abstained as problem:
            problem.line = problem.line or self._lines.get(op)
            raise

    def _run(self, op: Operation) -> None:
        if isinstance(op, arith.ConstantOp) and isinstance(op.value, DenseIntOrFPElementsAttr):
            self._constant(op)
            return
        if op.name.startswith(("arith.", "math.")):
            values = [self.word(value) for value in op.operands]
            found = scalar(self.code, op, values, "reassoc" if op in self.reassociated else "")
            if found is not None:
                self.values[op.results[0]] = found
                return
        if op.name not in self.handlers:
            raise Abstained(Reason.OPERATOR, f"the operation {op.name}")
        self.handlers[op.name](op)

    # --- values

    def word(self, value: SSAValue) -> Words:
        """A scalar. Raises Abstained."""
        found = self.values.get(value)
        if isinstance(found, str):
            return found
        raise Abstained(Reason.TYPE, f"a value of the type {str(value.type)[:40]}")

    def words(self, values: Sequence[SSAValue]) -> list[Words]:
        return [self.word(value) for value in values]

    def buffer(self, value: SSAValue) -> Buffer:
        """A memref or tensor. Raises Abstained."""
        found = self.values.get(value)
        if isinstance(found, Buffer):
            return found
        raise Abstained(Reason.TYPE, f"a value of the type {str(value.type)[:40]}")

    def mixed(self, static: Any, dynamic: Sequence[SSAValue]) -> list[Words]:
        """Numbers, and operands in the place of those that are dynamic."""
        assert isinstance(static, DenseArrayBase)
        rest = iter(dynamic)
        return [self.word(next(rest)) if n == DYNAMIC else str(n) for n in map(int, static.get_values())]

    # --- memory

    def fresh(self, value: SSAValue, sizes: Sequence[Words]) -> Buffer:
        """Memory for a tensor: where the caller wants it, or of its own."""
        kind = kind_of(value.type.get_element_type())  # type: ignore[attr-defined]
        home = self._homes.get(value)
        if home is not None and self.code.depth == 0:
            return dense(self.code, self.outputs[home], sizes, kind, owned=True)
        if self.code.depth:
            raise Abstained(Reason.TYPE, "a tensor that is made inside a loop")
        pointer = self.allocated(sizes, kind)
        self.made.append(pointer)
        return dense(self.code, pointer, sizes, kind, owned=True)

    def allocated(self, sizes: Sequence[Words], kind: str) -> Words:
        total = str(size_of("i8" if kind == "i1" else kind))
        for size in sizes:
            total = self.code.multiply(total, size)
        return self.code.value(f"call ptr @malloc(i64 {total})")

    def over(self, value: SSAValue, result: SSAValue, copied: bool = True) -> Buffer:
        """What a result may be written to that begins as `value`: its own memory where nobody else needs it, or a copy.

        `copied` False: what it begins with does not matter.
        """
        buffer = self.buffer(value)
        if buffer.owned and value.has_one_use() and self.code.depth == 0:
            return buffer
        target = self.fresh(result, buffer.sizes)
        if copied:
            self.copy(buffer, target)
        return target

    def copy(self, source: Buffer, target: Buffer) -> None:
        def element(at: Sequence[Words]) -> None:
            target.store(self.code, source.load(self.code, at), at)

        self.nest(source.sizes, element)

    def fill(self, target: Buffer, value: Words) -> None:
        self.nest(target.sizes, lambda at: target.store(self.code, value, at))

    def nest(self, sizes: Sequence[Words], body: Callable[[Sequence[Words]], None], at: Sequence[Words] = ()) -> None:
        """A loop for each size, outermost first."""
        if len(at) == len(sizes):
            body(at)
            return

        def inner(counter: Words, carried: Sequence[Words]) -> Sequence[Words]:
            self.nest(sizes, body, (*at, counter))
            return ()

        self.code.loop("0", sizes[len(at)], "1", (), inner)

    def _constant(self, op: arith.ConstantOp) -> None:
        assert isinstance(op.value, DenseIntOrFPElementsAttr)
        shape = shape_of(op.results[0].type)
        if shape is None or not op.value.is_splat():
            raise Abstained(Reason.TYPE, "a tensor of constants that are not all the same")
        target = self.fresh(op.results[0], list(map(str, shape)))
        self.fill(target, number(float(op.value.get_values()[0]), target.kind))
        self.values[op.results[0]] = target

    def inline(self, region: Region, values: Sequence[Words]) -> list[Words]:
        """The operations of a region, for the values of its arguments; what it ends with."""
        block = region.block
        self.values |= dict(zip(block.args, values, strict=True))
        last = self.block(block)
        return [] if last is None else self.words(list(last.operands))


def _own(ops: Operations) -> dict[str, Callable[[Any], None]]:
    code = ops.code

    def load(op: Operation) -> None:
        ops.values[op.results[0]] = ops.buffer(op.operands[0]).load(code, ops.words(op.operands[1:]))

    def store(op: Operation) -> None:
        ops.buffer(op.operands[1]).store(code, ops.word(op.operands[0]), ops.words(op.operands[2:]))

    def affine_load(op: Any) -> None:
        at = affine.results(code, op.map.data, ops.words(op.indices))
        ops.values[op.results[0]] = ops.buffer(op.memref).load(code, at)

    def affine_store(op: Any) -> None:
        at = affine.results(code, op.map.data, ops.words(op.indices))
        ops.buffer(op.memref).store(code, ops.word(op.value), at)

    def apply(op: Any) -> None:
        ops.values[op.results[0]] = affine.results(code, op.map.data, ops.words(op.operands))[0]

    def least(op: Any) -> None:
        values = affine.results(code, op.map.data, ops.words(op.operands))
        ops.values[op.results[0]] = code.least(values, "smax" if op.name.endswith("max") else "smin")

    return {
        "memref.load": load, "memref.store": store, "tensor.extract": load, "affine.load": affine_load,
        "affine.store": affine_store, "affine.apply": apply, "affine.min": least,
    }  # fmt: skip
