"""Symbolic evaluation of single instructions: what a register holds, what a store writes."""

from __future__ import annotations

from dataclasses import replace

from kernels.raising.addresses import address_of, why_no_address
from kernels.raising.calls import CLEARED, function_of, is_without_effect
from kernels.raising.cells import Cells
from kernels.raising.expressions import FALSE, TRUE, Expr, both, conjuncts
from kernels.raising.ir import Instruction, Operand
from kernels.raising.memory import Memory, Point, load
from kernels.raising.polynomials import ZERO
from kernels.raising.reasons import Abstained, Reason, vector_instructions
from kernels.raising.scalars import SCALARS
from kernels.raising.values import Values, chosen, node

_OPERATORS = {
    "fadd", "fsub", "fmul", "fdiv", "add", "sub", "mul", "sext", "zext", "trunc", "sitofp", "uitofp", "fpext",
    "fptrunc", "fneg", "fptosi", "shl", "and", "or", "xor", "ashr", "lshr", "sdiv", "udiv", "srem", "urem", "frem",
    "fptoui",
}  # fmt: skip


class Evaluator:
    """Notes what instructions do in `values` and `memory`. A loop's carried registers are in `cells` already."""

    def __init__(self, values: Values, memory: Memory, cells: Cells) -> None:
        self._values, self._memory, self._cells = values, memory, cells
        self._integers = values.integers
        self._flow = values.integers.definitions.flow

    def run(self, i: Instruction, block: str, point: Point) -> None:
        """Raises Abstained where an effect is not known; a value that is not known is noted with the reason."""
        _refuse_special(i)
        if i.opcode == "store":
            value, pointer = i.operands
            base, offset = address_of(pointer, self._integers)
            self._memory.store(base, offset, self._values.of(value), value.type, point, i.line)
        elif i.opcode == "load":
            self._values.known[i.name] = self._loaded(i, point)
        elif i.opcode == "call":
            self._call(i, point)
        elif i.type == "i1" or i.opcode in ("icmp", "fcmp") or (i.opcode == "phi" and self._is_header(block)):
            pass  # conditions are made where they are used
        elif i.name and self._integers.of(Operand(i.type, i.name)) is None:
            self._values.known[i.name] = self._computed(i, block)

    def _is_header(self, block: str) -> bool:
        loop = self._flow.innermost.get(block)
        return loop is not None and loop.header == block

    # --- loads

    def _loaded(self, i: Instruction, point: Point) -> Expr | Abstained:
        if i.type == "ptr":
            return Abstained(Reason.POINTER, "a pointer that is read from memory", i.line)
        return self._read(i, i.operands[0], point)

    def _read(self, i: Instruction, pointer: Operand, point: Point) -> Expr:
        """A load; of one of two addresses, a choice of two loads."""
        source, where = self._integers.definitions.of(pointer.word)
        if source is None or self._integers.of(pointer) is not None or source.opcode not in ("select", "phi"):
            base, offset = address_of(pointer, self._integers)
            return load(base, offset, i.type, point, i.line)
        if source.opcode == "select":
            a, b = (self._read(i, arm, point) for arm in source.operands[1:])
            return chosen(self._values.condition(source.operands[0]), i, a, b)
        if self._is_header(where) or len(source.operands) != 2:
            raise why_no_address(source, self._integers)
        a, b = (self._read(i, arm, point) for arm in source.operands)
        return chosen(self._values.edge(source.targets[0], where), i, a, b)

    # --- values

    def _computed(self, i: Instruction, block: str) -> Expr | Abstained:
        try:
            return self._merged(i, block) if i.opcode == "phi" else self._operator(i)
        except Abstained as problem:
            return problem

    def _operator(self, i: Instruction) -> Expr:
        if i.opcode == "select":
            return chosen(self._values.condition(i.operands[0]), i, *map(self._values.of, i.operands[1:]))
        if i.opcode == "freeze":
            return self._values.of(i.operands[0])
        if i.opcode == "alloca":
            raise Abstained(Reason.TYPE, "a local array of a type that is not read", i.line)
        if i.opcode in ("zext", "sext", "uitofp", "sitofp") and i.operands[0].type == "i1":
            one = Expr("const", i.type, value=1 if i.opcode != "sext" else -1)
            return chosen(self._values.condition(i.operands[0]), i, one, Expr("const", i.type, value=0))
        if i.opcode not in _OPERATORS:
            raise Abstained(Reason.OPERATOR, f"the instruction {i.opcode}", i.line)
        return node(i.opcode, i.type, tuple(map(self._values.of, i.operands)), i)

    def _merged(self, phi: Instruction, block: str) -> Expr:
        """The value by the way on which the block was reached."""
        pairs = [
            (self._values.edge(target, block), operand)
            for operand, target in zip(phi.operands, phi.targets, strict=True)
        ]
        pairs = [(edge, operand) for edge, operand in pairs if edge != FALSE]
        if not pairs:
            raise Abstained(Reason.CONTROL, "a value that comes from nowhere", phi.line)
        cell = self._guarded(phi, block)
        if cell is not None:
            return cell
        result = self._values.of(pairs[-1][1])
        for edge, operand in reversed(pairs[:-1]):
            result = chosen(edge, phi, self._values.of(operand), result)
        return result

    def _guarded(self, phi: Instruction, block: str) -> Expr | None:
        """A cell behind a loop that may not have run: it has its start then, which the other way brings, too."""
        if len(phi.operands) != 2:
            return None
        for one, other in ((0, 1), (1, 0)):
            word = phi.operands[one].word
            definition, _ = self._integers.definitions.of(word)
            inner = definition.operands[0].word if definition is not None and definition.opcode == "phi" else word
            cell = self._cells.by_name.get(inner)
            if cell is None or cell.guard != phi.targets[other]:
                continue
            read = self._values.known.get(inner)
            if isinstance(read, Expr) and self._values.of(phi.operands[other]) == cell.start and read.op == "load":
                old = read.value
                guard = conjuncts(self._values.edges.get((phi.targets[one], block), TRUE))
                when = both(*[part for part in conjuncts(old.when) if part not in guard])
                return replace(read, value=replace(old, time=(*old.time[:-1], self._memory.tick()), when=when))
        return None

    # --- calls

    def _call(self, i: Instruction, point: Point) -> None:
        if is_without_effect(i.callee) and not (i.type == "ptr" and self._integers.of(Operand("ptr", i.name)) is None):
            return
        if i.callee == CLEARED and self._cleared_memory(i, point):
            return
        if i.callee.startswith("llvm.memset") and self._cleared(i, point):
            return
        if i.callee.startswith(("llvm.memset", "llvm.memcpy", "llvm.memmove")):
            raise Abstained(Reason.CALL, f"a call of {i.callee.split('.')[1]}", i.line)
        name = function_of(i.callee)
        if name is None or i.type not in SCALARS:
            raise Abstained(Reason.CALL, f"a call of {i.callee or 'a pointer'}", i.line)
        if i.type.startswith("i") and self._integers.of(Operand(i.type, i.name)) is not None:
            return
        args = tuple(self._values.of(operand) for operand in i.operands if operand.type != "i1")
        self._values.known[i.name] = _applied(name, i, args)

    def _cleared(self, i: Instruction, point: Point) -> bool:
        """Note a memset to zero of a known length."""
        pointer, byte, length = i.operands[0], self._integers.of(i.operands[1]), self._integers.of(i.operands[2])
        if length is None or byte != ZERO or not point.when.is_affine:
            return False
        self._memory.clear(*address_of(pointer, self._integers), length, point, i.line)
        return True

    def _cleared_memory(self, i: Instruction, point: Point) -> bool:
        """Note memory that is got full of zeros."""
        count, size = map(self._integers.of, i.operands)
        if count is None or size is None or self._integers.of(Operand("ptr", i.name)) is None:
            return False
        self._memory.clear(i.name, ZERO, count * size, point, i.line)
        return True


def _refuse_special(i: Instruction) -> None:
    if "volatile" in i.flags:
        raise Abstained(Reason.VOLATILE, "a volatile access")
    if "addrspace" in i.flags:
        raise Abstained(Reason.POINTER, "memory of an address space of its own")
    if "atomic" in i.flags or i.opcode in ("cmpxchg", "atomicrmw", "fence"):
        raise Abstained(Reason.ATOMIC, "an atomic access")
    if i.type.startswith("<") or any(operand.type.startswith("<") for operand in i.operands):
        raise vector_instructions()


def _applied(name: str, i: Instruction, args: tuple[Expr, ...]) -> Expr:
    if name not in ("fmuladd", "fma"):
        return node("call", i.type, args, i, name)
    product = node("fmul", i.type, args[:2], i)
    fused = replace(i, flags=i.flags | {"fused"}) if name == "fma" else i
    return node("fadd", i.type, (product, args[2]), fused)
