"""Bounds of reduced loops in place of conditions that skip terms."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.target import Target

from kernels import examples
from kernels.lowering import nodes
from kernels.nests.calls import named
from kernels.nests.conditions import CHOICE, chosen, parts_of, sides
from kernels.nests.linear import coefficient, substituted, uses
from kernels.nests.nest import Nest, Refused, nest_of, neutral, restated
from kernels.nests.plain import plain, rewritten
from kernels.passes.base import Documentation, Example, Pass, Requirement


@dataclass(frozen=True)
class Bounds(Pass):
    """Let a reduced loop run only where its terms count, in place of a condition on every term.

    A sum over a triangle, as in a causal product, is written as a sum over the square of terms that are zero above the
    diagonal: `k <= i ? a[i, k] * b[k, j] : 0`. The condition is solved for the reduced loop's variable, which then ends
    at i. Half of the work is left, and no branch is in the way of vectors.
    """

    name: ClassVar[str] = "bounds"
    documentation: ClassVar[Documentation] = Documentation(
        requires=(
            Requirement("skipped terms change nothing", "the other branch is the neutral element of the combiner"),
            Requirement(
                "the condition is a bound",
                "a conjunction of comparisons, linear with a factor of 1 or -1 in the variable",
            ),
            Requirement("terms may come in any order", "one store `C = C o term`, the term without C"),
        ),
        options={"on": "1 solves conditions on the terms of reductions for the reduced loops"},
        counters={"conditions": "on elements, in the program"},
        loses="Where the loop is short, and LLVM would have unrolled a fixed number of iterations.",
        elsewhere="LLVM `IRCE` and loop unswitching, polyhedral code generation, MLIR `affine-simplify-structures`",
        example=Example(examples.triangle, examples.untouched, "bounds{on=0}", "bounds{on=1}"),
    )
    on: bool = False

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False)) if target_kind == "llvm" else (cls(False),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        return bool(_bounded(plain(module["main"]))[1])

    def refusal(self, function: tirx.PrimFunc, target: Target) -> str:
        if not self.on or _bounded(plain(function))[1]:
            return ""
        return "no reduction has a condition on its terms that is a bound of a reduced loop"

    def counters(self, function: tirx.PrimFunc, target: Target) -> Mapping[str, float]:
        return {"conditions": len(named(plain(function).body, CHOICE))}

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        return _bounded(plain(function))[0] if self.on else function


@functools.lru_cache(maxsize=8)
def _bounded(function: tirx.PrimFunc) -> tuple[tirx.PrimFunc, int]:
    """A plain function with conditions as bounds, and in how many nests."""
    count = 0

    def change(loop: Any) -> Any | None:
        nonlocal count
        try:
            nest = _with_bound(nest_of(loop))
        except Refused:
            return None
        count += 1
        return restated(nest)

    body = rewritten(function.body, change)
    return (function.with_body(body), count) if count else (function, 0)


def _with_bound(nest: Nest) -> Nest:
    """The nest whose condition bounds one of its reduced loops, which is then the innermost. Raises Refused."""
    condition, value = _skipping(nest)
    for loop in reversed(nest.reduced):
        others = [other for other in nest.loops if not other.same_as(loop)]
        try:
            low, high = _solved(condition, loop)
        except Refused:
            continue
        extent = tvm.sym.Analyzer().simplify(tirx.max(high - low, tirx.const(0, loop.loop_var.ty.dtype)))
        bounded = tirx.For(loop.loop_var, low, extent, loop.kind, loop.body)
        return replace(nest, loops=(*others, bounded), term=value)
    raise Refused("a condition that is no bound of a reduced loop")


def _skipping(nest: Nest) -> tuple[Any, Any]:
    """The condition under which a term counts, and the term then. Raises Refused where there is none."""
    found = chosen(nest.term) if nest.combiner else None
    if found is None:
        raise Refused("no condition")
    condition, value, otherwise = found
    if getattr(otherwise, "value", None) != getattr(neutral(nest), "value", nest):
        raise Refused("no condition that skips terms")
    return condition, value


def _solved(condition: Any, loop: Any) -> tuple[Any, Any]:
    """The first iteration of a loop under a condition, and the one after the last. Raises Refused."""
    dtype = str(loop.loop_var.ty.dtype)
    low, high = tirx.const(0, dtype), loop.extent
    for part in parts_of(condition):
        least, most = sides(part)
        # least <= most, both linear in the variable
        rest = substituted(most - least, {loop.loop_var: tirx.const(0, dtype)})
        step = coefficient(most - least, loop.loop_var)
        if step not in (1, -1) or nodes(part, tvm.ir.TensorLoad):
            raise Refused("a condition that is no bound of this loop")
        if step == 1:
            low = tirx.max(low, -rest)
        else:
            high = tirx.min(high, rest + 1)
    if uses(low, loop.loop_var) or uses(high, loop.loop_var):
        raise Refused("a condition that is no bound of this loop")
    return low, high
