"""Instructions of integers and addresses on polynomials: what they give, and what must hold for that."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.raising.definitions import Definitions
from kernels.raising.expressions import at_least_zero, both
from kernels.raising.ir import Instruction
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason

BINARY = ("add", "sub", "mul", "shl", "or", "and", "sdiv", "udiv", "srem", "urem", "lshr", "ashr", "xor")
CASTS = ("sext", "zext", "trunc", "ptrtoint")

_HUGE = 1 << 40
"""With such a factor an index in 64 bits is there to lose its upper bits."""


class Arithmetic:
    """Values are None where they are no polynomials. Raises Abstained for what wraps around."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    def binary(self, instruction: Instruction, block: str, a: Poly, b: Poly) -> Poly | None:
        opcode, bits = instruction.opcode, int(instruction.type[1:])
        if opcode == "and":
            return self._masked(a, b, instruction, block)
        result = _exact(instruction, a, b)
        if result is None:
            return self._quotient(instruction, a, b)
        if bits == 64 and "nsw" not in instruction.flags and any(abs(c) >= _HUGE for m, c in result.terms if m):
            raise Abstained(Reason.WRAP, "an index that is shifted out of its type", instruction.line)
        if bits == 64 or "nsw" in instruction.flags or result.constant is not None:
            return result
        return self._in_range(result, bits, instruction, block)

    def _in_range(self, value: Poly, bits: int, instruction: Instruction, block: str) -> Poly:
        """The value, which must lie in the signed range of its type."""
        if bits < 32 and value.constant is None:
            raise Abstained(Reason.WRAP, f"an index of {bits} bits", instruction.line)
        bound = 1 << (bits - 1)
        holds = both(at_least_zero(value + bound), at_least_zero(Poly.of(bound - 1) - value))
        self._definitions.require("wrap", holds, block, instruction.line)
        return value

    def _masked(self, a: Poly, b: Poly, instruction: Instruction, block: str) -> Poly | None:
        if a.constant is not None:
            a, b = b, a
        if b.constant == 0xFFFFFFFF and instruction.type == "i64":
            if a.constant_term >= 1 << 31:  # compilers write p - 1 in 32 bits as p + 4294967295
                a -= 1 << 32
            holds = both(at_least_zero(a), at_least_zero(Poly.of(0x7FFFFFFF) - a))
            self._definitions.require("wrap", holds, block, instruction.line)
            return a
        if b.constant in (0xFF, 0xFFFF) and a.constant is None:
            raise Abstained(Reason.WRAP, "an index that wraps around in fewer bits", instruction.line)
        return self.opaque("and", [a, b], int(instruction.type[1:]))

    def _quotient(self, instruction: Instruction, a: Poly, b: Poly) -> Poly | None:
        if instruction.opcode == "sdiv" and b.constant and (exact := a.divided(b.constant)) is not None:
            return exact
        if instruction.opcode in ("ashr", "lshr") and b.constant is not None and "exact" in instruction.flags:
            shifted, _ = self._definitions.of(instruction.operands[0].word)
            if shifted is not None and shifted.opcode == "shl" and "nsw" not in shifted.flags:
                raise Abstained(Reason.WRAP, "an index that wraps around in fewer bits", instruction.line)
            return a.divided(1 << b.constant)
        if instruction.opcode == "xor" and b.constant == -1:
            return -a - 1
        return self.opaque(instruction.opcode, [a, b], int(instruction.type[1:]))

    def opaque(self, opcode: str, parts: Sequence[Poly | None], bits: int) -> Poly | None:
        """A symbol for what is computed of parameters alone."""
        known = tuple(part for part in parts if part is not None)
        symbols, table = {s for part in known for s in part.symbols}, self._definitions.opaque
        if len(known) < len(parts) or any(s not in self._definitions.arguments and s not in table for s in symbols):
            return None
        definition = (opcode, known, bits)
        symbol = next((name for name, other in table.items() if other == definition), f"q{len(table)}")
        table[symbol] = definition
        return Poly.of(symbol)

    def cast(self, instruction: Instruction, block: str, value: Poly | None) -> Poly | None:
        """sext, zext, trunc or ptrtoint of what is no boolean."""
        if value is None or (value.constant is not None and instruction.opcode == "sext"):
            return value
        kind = instruction.operands[0].type
        bits = 64 if kind == "ptr" else int(kind[1:])
        if instruction.opcode == "trunc":
            if instruction.type == "i1":
                return None
            wraps = "nsw" not in instruction.flags
            return self._in_range(value, int(instruction.type[1:]), instruction, block) if wraps else value
        if instruction.opcode == "zext" and "nneg" in instruction.flags:
            return value
        if bits < 32:
            raise Abstained(Reason.WRAP, f"an index of {bits} bits", instruction.line)
        if instruction.opcode == "zext":
            self._definitions.require("wrap", at_least_zero(value), block, instruction.line)
        return value


def _exact(instruction: Instruction, a: Poly, b: Poly) -> Poly | None:
    """The result where nothing is divided or masked, before it is cut to its type."""
    opcode = instruction.opcode
    if opcode == "add" or (opcode == "or" and "disjoint" in instruction.flags):
        return a + b
    if opcode == "sub":
        return a - b
    if opcode == "mul":
        return a * b
    if opcode == "shl" and b.constant is not None and 0 <= b.constant < int(instruction.type[1:]):
        return a * (1 << b.constant)
    return None
