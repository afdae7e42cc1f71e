"""How much machine code a scheduled program will become, foretold from its loops in some milliseconds.

LLVM takes time in proportion to the code it is given, or worse. A candidate whose unrolled loops make ten thousand
instructions takes seconds to compile and, its code being larger than the instruction cache, is seldom fast.

Counted are the vector instructions of each store (loads, arithmetic, the store itself), times the copies that explicit
unrolling makes: the rule of TVM's `UnrollLoop`. A vector whose lanes do not lie next to each other is counted lane
by lane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from kernels.reference.expressions import BINARY, subexpressions

_PRAGMA = "pragma_auto_unroll_max_step"
_PER_LANE = 2
"""Instructions to load or store one lane by itself and move it into its place."""

_FUNCTION = 20
"""Instructions of a polynomial for exp, tanh or erf."""

_LLVM_UNROLLS = 300
"""Instructions up to which LLVM unrolls an innermost loop whole by itself (its own threshold at -O3)."""

_MAX_DEPTH = 8
"""Nested loops that TVM unrolls at most."""

Values = Mapping[Any, Any]


@dataclass(frozen=True)
class _Code:
    """Of one statement: its instructions, its steps as TVM counts them, and nested loops unrolled and left rolled."""

    size: float
    steps: int = 0
    unrolled: int = 0
    rolled: int = 0

    def then(self, other: _Code) -> _Code:
        return _Code(
            self.size + other.size,
            self.steps + other.steps,
            max(self.unrolled, other.unrolled),
            max(self.rolled, other.rolled),
        )


@dataclass(frozen=True)
class _Place:
    """Where a statement stands: what variables are worth along the vector, its length, and how far loops unroll."""

    values: Values
    lanes: int
    limit: int


def code_size(program: tirx.PrimFunc, vector_lanes: int) -> float:
    """The instructions a scheduled program is expected to become, on registers of `vector_lanes` fp32 numbers."""
    return _Walk(vector_lanes).visit(program.body, _Place({}, 1, 0)).size


class _Walk:
    def __init__(self, vector_lanes: int) -> None:
        self._lanes = vector_lanes

    def visit(self, node: Any, place: _Place) -> _Code:
        if isinstance(node, tvm.s_tir.SBlockRealize):
            return self._block(node, place)
        if isinstance(node, tirx.For):
            return self._loop(node, place)
        if isinstance(node, tirx.BufferStore):
            return _Code(self._store(node, place), steps=1)
        parts = [getattr(node, name, None) for name in ("body", "then_case", "else_case")]
        total = _Code(0.0)
        for part in node.seq if isinstance(node, tirx.SeqStmt) else [p for p in parts if p is not None]:
            total = total.then(self.visit(part, place))
        return total

    def _block(self, node: Any, place: _Place) -> _Code:
        block = node.block
        bound = {}
        if place.lanes > 1:  # elsewhere every access is one instruction, whatever its index
            for variable, value in zip(block.iter_vars, node.iter_values, strict=True):
                bound[variable.var] = _value(value, place.values)
        limit = int(block.annotations[_PRAGMA]) if _PRAGMA in block.annotations else place.limit
        inner = _Place({**place.values, **bound}, place.lanes, limit)
        code = self.visit(block.body, inner)
        return code if block.init is None else code.then(self.visit(block.init, inner))

    def _loop(self, node: Any, place: _Place) -> _Code:
        extent = int(node.extent) if isinstance(node.extent, tirx.IntImm) else 0
        limit = int(node.annotations[_PRAGMA]) if _PRAGMA in node.annotations else place.limit
        if node.kind == tirx.ForKind.VECTORIZED:
            values = {**place.values, node.loop_var: np.arange(extent)}
            return self.visit(node.body, _Place(values, extent, limit))
        code = self.visit(node.body, _Place(place.values, place.lanes, limit))
        serial = node.kind == tirx.ForKind.SERIAL and code.rolled == 0
        fits = serial and code.unrolled <= _MAX_DEPTH and extent * code.steps <= limit
        if extent and (node.kind == tirx.ForKind.UNROLLED or fits):
            return _Code(extent * code.size, extent * code.steps, code.unrolled + 1, code.rolled)
        copies = extent if serial and extent and extent * code.size <= _LLVM_UNROLLS else 1
        return _Code(copies * code.size + 2, code.steps, code.unrolled, code.rolled + 1)

    def _store(self, node: Any, place: _Place) -> float:
        total = self._access(node.buffer.shape, node.indices, place)
        for expression in subexpressions(node.value):
            if isinstance(expression, tvm.ir.TensorLoad):
                total += self._access(expression.source.shape, expression.indices, place)
            elif isinstance(expression, tvm.ir.Call):
                total += _FUNCTION * math.ceil(place.lanes / self._lanes)
            elif isinstance(expression, tuple(BINARY)) and "float" in str(getattr(expression, "dtype", "")):
                total += math.ceil(place.lanes / self._lanes)
        return total

    def _access(self, shape: Sequence[Any], indices: Sequence[Any], place: _Place) -> float:
        """Instructions for one load or store: few where its lanes are one element, or lie next to each other."""
        if place.lanes == 1:
            return 1.0
        offset: Any = 0
        for index, extent in zip(indices, shape, strict=True):
            offset = offset * int(extent) + _value(index, place.values)
        if np.ndim(offset) == 0:
            return 1.0
        steps = np.diff(offset)
        if not steps.any():
            return 1.0
        return float(math.ceil(place.lanes / self._lanes) if (steps == 1).all() else _PER_LANE * place.lanes)


def _value(expression: Any, values: Values) -> Any:
    """An index along the vector; variables that do not change along it count as 0, and what is not known too."""
    if isinstance(expression, tirx.IntImm):
        return int(expression.value)
    if isinstance(expression, tirx.Var):
        return values.get(expression, 0)
    rule = BINARY.get(type(expression))
    if rule is None:
        return 0
    return rule(_value(expression.a, values), _value(expression.b, values))
