"""Which iterations of loops touch the same elements, exactly, by the integer set library.

What cannot be written as an affine form (an index that is loaded, a product of loop variables) may be any element.
Conditions count as if they held. So every true dependence is found.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from kernels.lowering import nodes
from kernels.nests.calls import only_values
from kernels.nests.linear import loads
from kernels.nests.nest import Refused


@dataclass(frozen=True)
class Access:
    """A load or store inside of loops, the outermost first."""

    buffer: Any
    indices: tuple[Any, ...]
    is_write: bool
    loops: tuple[Any, ...]


def available() -> bool:
    """Whether the library is installed; without it nothing is proven, and no loops are fused or distributed."""
    return importlib.util.find_spec("islpy") is not None


def accesses(statement: Any, loops: tuple[Any, ...] = ()) -> Iterator[Access]:
    """Every access of a statement. Raises Refused for a statement that may do more than load and store."""
    if isinstance(statement, tirx.For):
        yield from accesses(statement.body, (*loops, statement))
    elif isinstance(statement, tirx.SeqStmt):
        yield from itertools.chain.from_iterable(accesses(part, loops) for part in statement.seq)
    elif isinstance(statement, tirx.AttrStmt):
        yield from accesses(statement.body, loops)
    elif isinstance(statement, tirx.IfThenElse):
        yield from _loads(statement.condition, loops)
        for part in (statement.then_case, statement.else_case):
            yield from accesses(part, loops) if part is not None else ()
    elif isinstance(statement, tirx.BufferStore):
        for part in (statement.value, *statement.indices):
            yield from _loads(part, loops)
        yield Access(statement.buffer, tuple(statement.indices), True, loops)
    elif isinstance(statement, tirx.Bind):
        yield from _loads(statement.value, loops)
    elif not isinstance(statement, tirx.AllocBuffer):
        raise Refused(f"a statement of the kind {type(statement).__name__}")


def meet_only_in_same_iteration(first: Any, second: Any) -> bool:
    """Whether no iteration of the loop `second` touches what another iteration of `first` writes, or writes what it
    touches, where both count from zero. Raises Refused where a body does more than load and store."""
    touched = [{(a.buffer, a.is_write, _relation(a)) for a in _shared(loop)} for loop in (first, second)]
    pairs = {
        (one, other)
        for (a, a_writes, one), (b, b_writes, other) in itertools.product(*touched)
        if a.same_as(b) and (a_writes or b_writes)
    }
    return all(_same(one, other) for one, other in pairs)


def _shared(loop: Any) -> Iterator[Access]:
    """The accesses of a loop to what is not allocated by each of its iterations for itself."""
    own = [allocation.buffer for allocation in nodes(loop.body, tirx.AllocBuffer)]
    return (access for access in accesses(loop) if not any(access.buffer.same_as(buffer) for buffer in own))


@functools.lru_cache(maxsize=4096)
def _same(one: str, other: str) -> bool:
    """Whether two relations of iterations and elements lead to one element from one iteration only."""
    import islpy as isl

    meeting = isl.Map(one).apply_range(isl.Map(other).reverse())
    return bool(meeting.is_subset(isl.Map("{ [i] -> [i] }")))


def _relation(access: Access) -> str:
    """From iterations of the outermost loop to the elements that an access touches, in the library's syntax."""
    names = {loop.loop_var: f"v{n}" for n, loop in enumerate(access.loops)}
    bounds = [text for loop in access.loops if (text := _bounds(loop, names)) is not None]
    equal = []
    for axis, index in enumerate(access.indices):
        form = _affine(index, names)
        if form is not None:
            equal.append(f"e{axis} = {form}")
    outermost, *inner = names.values()
    inside = f"exists {', '.join(inner)} : " if inner else ""
    body = " and ".join([*bounds, *equal]) or "0 = 0"
    axes = ", ".join(f"e{axis}" for axis in range(len(access.indices)))
    return f"{{ [{outermost}] -> [{axes}] : {inside}{body} }}"


def _bounds(loop: Any, names: dict[Any, str]) -> str | None:
    """The range of a loop's variable; None where it is not affine, so that it may have any value."""
    begin, extent = _affine(loop.min, names), _affine(loop.extent, names)
    if begin is None or extent is None:
        return None
    name = names[loop.loop_var]
    return f"{begin} <= {name} < {begin} + {extent}"


def _affine(expression: Any, names: dict[Any, str]) -> str | None:
    """An integer expression in the library's syntax; None where it is not affine in the loop variables."""
    if isinstance(expression, tirx.IntImm):
        return str(int(expression))
    if isinstance(expression, tirx.Var):
        return next((name for variable, name in names.items() if variable.same_as(expression)), None)
    if isinstance(expression, tirx.Cast):
        return None
    parts = [_affine(part, names) for part in (expression.a, expression.b)] if hasattr(expression, "b") else []
    if len(parts) != 2 or None in parts:
        return None
    a, b = parts
    if isinstance(expression, (tirx.Add, tirx.Sub)):
        return f"({a} {'+' if isinstance(expression, tirx.Add) else '-'} {b})"
    if isinstance(expression, tirx.Mul):
        factor, other = (a, b) if isinstance(expression.a, tirx.IntImm) else (b, a)
        either = isinstance(expression.a, tirx.IntImm) or isinstance(expression.b, tirx.IntImm)
        return f"({factor}*{other})" if either else None
    if isinstance(expression.b, tirx.IntImm) and int(expression.b) > 0:
        if isinstance(expression, tirx.FloorDiv):
            return f"floor({a} / {int(expression.b)})"
        if isinstance(expression, tirx.FloorMod):
            return f"({a} mod {int(expression.b)})"
    return None


def _loads(expression: Any, loops: tuple[Any, ...]) -> Iterator[Access]:
    if isinstance(expression, (tirx.Var, tirx.IntImm)):
        return iter(())
    if not only_values(expression):
        raise Refused("a call")
    return (Access(load.source, tuple(load.indices), False, loops) for load in loads(expression))


def writes(statement: Any) -> Sequence[Any]:
    """The buffers that a statement stores to."""
    return [access.buffer for access in accesses(statement) if access.is_write]
