"""A function at given sizes: every symbol a number, every requirement checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernels.raising.expressions import both, substituted
from kernels.raising.findings import Analysis
from kernels.raising.polyhedra import Polyhedra, isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason


@dataclass
class Sized:
    """An analysis with its parameters as numbers. Raises Abstained where the function then is not what it was taken
    for: a guard that does not hold, an index that wraps around."""

    analysis: Analysis
    sizes: Mapping[str, int]

    def __post_init__(self) -> None:
        assert self.analysis.accesses is not None
        self.accesses = self.analysis.accesses
        trace = self.accesses.trace
        self.values = {symbol: Poly.of(number) for symbol, number in self.sizes.items()}
        for symbol, (opcode, parts, bits) in trace.definitions.opaque.items():
            arguments = [part.substitute(self.values).constant for part in parts]
            if None in arguments:
                raise Abstained(Reason.SIZES, f"a size that is not given ({opcode})")
            self.values[symbol] = Poly.of(_computed(opcode, [a for a in arguments if a is not None], bits))
        self.point = self._point()
        self._check()

    def number(self, poly: Poly) -> int:
        """The value of a polynomial of parameters. Raises Abstained where one is not given."""
        value = poly.substitute(self.values).constant
        if value is None:
            missing = ", ".join(sorted(poly.substitute(self.values).symbols))
            raise Abstained(Reason.SIZES, f"no size is given for {missing}")
        return value

    def at(self, domain: isl.Set) -> isl.Set:
        """A set without parameters."""
        fixed = domain.intersect_params(self.point)
        return fixed.project_out(isl.dim_type.param, 0, fixed.dim(isl.dim_type.param)).coalesce()

    def _point(self) -> isl.Set:
        polyhedra = self.accesses.polyhedra
        parts = [f"{name} = {self.number(Poly(((monomial, 1),)))}" for monomial, name in polyhedra.names.items()]
        return isl.Set(f"{polyhedra.header()}{{ : {' and '.join(parts) or '0 = 0'} }}")

    def _check(self) -> None:
        polyhedra, trace = self.accesses.polyhedra, self.accesses.trace
        for holds in polyhedra.assumed_sets:
            if holds.intersect(self.point).is_empty():
                raise Abstained(Reason.SIZES, "the sizes are none for which the subscripts stay in their arrays")
        bounds = {symbol: substituted(condition, self.values) for symbol, condition in polyhedra.bounds.items()}
        numeric = Polyhedra({}, bounds)
        for requirement in trace.definitions.requirements:
            needed = substituted(requirement.holds, self.values)
            when = substituted(requirement.when, self.values)
            whole = numeric.set_of(requirement.loops, when, context=False)
            inside = numeric.set_of(requirement.loops, both(when, needed), context=False)
            if not whole.subtract(inside).is_empty():
                reason = Reason.WRAP if requirement.kind == "wrap" else Reason.SIZES
                raise Abstained(reason, "a requirement does not hold for these sizes", requirement.line)


def _computed(opcode: str, arguments: list[int], bits: int) -> int:
    """An operation of integers of LLVM. Raises Abstained where it has no value."""
    a, b = arguments
    mask = (1 << bits) - 1
    if opcode in ("min", "max"):
        return min(a, b) if opcode == "min" else max(a, b)
    if opcode in ("sdiv", "srem", "udiv", "urem"):
        if b == 0 or (opcode[0] == "u" and min(a, b) < 0):
            raise Abstained(Reason.SIZES, "a size divided by zero")
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return quotient if opcode.endswith("div") else a - quotient * b
    if opcode in ("and", "or", "xor"):
        value = {"and": a & b, "or": a | b, "xor": a ^ b}[opcode]
        return value
    if opcode in ("shl", "lshr", "ashr") and 0 <= b < bits:
        value = (a << b) & mask if opcode == "shl" else (a & mask) >> b if opcode == "lshr" else a >> b
        return value - (1 << bits) if opcode == "shl" and value >> (bits - 1) else value
    raise Abstained(Reason.SIZES, f"a size computed by {opcode}")
