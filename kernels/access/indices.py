"""Values of index expressions, and the terms that an index is a sum of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import tirx

from kernels.reference.expressions import BINARY, subexpressions

Values = NDArray[np.int64]
Bounds = Mapping[Any, tuple[int, int]]
"""The least value and the number of values of each variable."""

_CALLS = {
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "shift_left": np.left_shift, "shift_right": np.right_shift,
}  # fmt: skip


_UNBOUNDED = 1 << 40


class Unknown(Exception):
    """An index that depends on data, or is computed by something that has no rule here."""


def bounds_of(least: Any, extent: Any, around: Bounds) -> tuple[int, int]:
    """The least value and the most values of a loop whose bounds may depend on the variables around it.

    Raises ValueError where it has no bound.
    """
    if isinstance(least, tirx.IntImm) and isinstance(extent, tirx.IntImm):
        return int(least), int(extent)
    analyzer = tvm.sym.Analyzer()
    for variable, (low, count) in around.items():
        dtype = str(variable.ty.dtype)
        begin, length = tirx.const(low, dtype), tirx.const(max(count, 1), dtype)
        analyzer.bind(variable, tvm.ir.Range.from_min_extent(begin, length))
    low = int(analyzer.const_int_bound(analyzer.simplify(least)).min_value)
    most = int(analyzer.const_int_bound(analyzer.simplify(extent)).max_value)
    if low < -_UNBOUNDED or most > _UNBOUNDED:
        raise ValueError("a loop without a bound")
    return low, max(most, 0)


def variables(expression: Any) -> list[Any]:
    """The variables of an expression, each once."""
    found: dict[Any, None] = {}
    for part in subexpressions(expression):
        if isinstance(part, tirx.Var):
            found[part] = None
        elif isinstance(part, tirx.Ramp):
            found |= dict.fromkeys(variables(part.base))
        elif isinstance(part, tvm.ir.TensorLoad):
            raise Unknown("an index that depends on data")
    return list(found)


def terms(expression: Any, factor: int = 1) -> Iterator[tuple[int, Any]]:
    """(factor, expression) of the terms that an index is the sum of; a constant is a term, too."""
    if isinstance(expression, tirx.Add):
        yield from terms(expression.a, factor)
        yield from terms(expression.b, factor)
    elif isinstance(expression, tirx.Sub):
        yield from terms(expression.a, factor)
        yield from terms(expression.b, -factor)
    elif isinstance(expression, tirx.Mul) and isinstance(expression.b, tirx.IntImm):
        yield from terms(expression.a, factor * int(expression.b))
    elif isinstance(expression, tirx.Mul) and isinstance(expression.a, tirx.IntImm):
        yield from terms(expression.b, factor * int(expression.a))
    elif isinstance(expression, tirx.Ramp):
        yield from terms(expression.base, factor)
        yield factor, tirx.Ramp(tirx.const(0, str(expression.stride.ty.dtype)), expression.stride, expression.lanes)
    elif isinstance(expression, tirx.Broadcast):
        yield from terms(expression.value, factor)
    else:
        yield factor, expression


def evaluate(expression: Any, values: Mapping[Any, Values]) -> Values:
    """An integer expression [n, lanes] for n values of its variables; lanes is 1 for what is no vector.

    Raises Unknown.
    """
    if isinstance(expression, tirx.IntImm):
        return np.full((1, 1), int(expression), np.int64)
    if isinstance(expression, tirx.Var):
        if expression not in values:
            raise Unknown(f"{expression} has no bounds")
        return values[expression].reshape(-1, 1)
    if isinstance(expression, tirx.Ramp):
        lanes = np.arange(int(expression.lanes), dtype=np.int64)
        return evaluate(expression.base, values) + evaluate(expression.stride, values) * lanes
    if isinstance(expression, tirx.Broadcast):
        return evaluate(expression.value, values)
    if isinstance(expression, tirx.Cast):
        return evaluate(expression.value, values)
    if isinstance(expression, tirx.Select):
        chosen = evaluate(expression.condition, values) != 0
        either = evaluate(expression.true_value, values), evaluate(expression.false_value, values)
        return np.where(chosen, *either)
    if type(expression) in BINARY and not isinstance(expression, tirx.Div):
        return _whole(BINARY[type(expression)](evaluate(expression.a, values), evaluate(expression.b, values)))
    if isinstance(expression, tvm.ir.Call):
        return _called(expression, values)
    raise Unknown(f"{type(expression).__name__} in an index")


def _called(call: Any, values: Mapping[Any, Values]) -> Values:
    name = str(getattr(call.op, "name", "")).removeprefix("tirx.")
    if name in _CALLS:
        return _whole(_CALLS[name](*(evaluate(argument, values) for argument in call.args)))
    if name == "if_then_else":
        condition, chosen, otherwise = (evaluate(argument, values) for argument in call.args)
        return np.where(condition != 0, chosen, otherwise)
    raise Unknown(f"{name} in an index")


def _whole(found: Any) -> Values:
    return np.asarray(found, dtype=np.int64)
