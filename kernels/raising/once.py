"""Loops that run exactly once are no loops: their counters become numbers."""

from __future__ import annotations

from dataclasses import replace

from kernels.raising.access import Element, Normal
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.substitution import substituted_value


def without_single(statement: Normal) -> Normal:
    """The statement without loops whose counter has one value in all iterations."""
    domain = statement.domain
    values: dict[str, Poly] = {}
    for position in reversed(range(len(statement.loops))):
        value = domain.plain_get_val_if_fixed(isl.dim_type.set, position)
        if value.is_int():
            values[statement.loops[position]] = Poly.of(int(value.to_python()))
            domain = domain.project_out(isl.dim_type.set, position, 1)
    if not values:
        return statement
    target = Element(statement.target.base, tuple(p.substitute(values) for p in statement.target.subscripts))
    return replace(
        statement, target=target, value=substituted_value(statement.value, values), domain=domain,
        loops=tuple(c for c in statement.loops if c not in values), once=frozenset(values),
    )  # fmt: skip
