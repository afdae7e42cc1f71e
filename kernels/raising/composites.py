"""Several operations that are one thing: softmax and layer norm."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.raising.expressions import Expr
from kernels.raising.ops import ACCUMULATED, Operation, elements
from kernels.raising.updates import summands


def composite(ops: Sequence[Operation], start: int) -> tuple[str, int] | None:
    """softmax or layer norm that begins at an operation: its name and how many operations it is."""
    return _softmax(ops, start) or _layer_norm(ops, start)


def _softmax(ops: Sequence[Operation], start: int) -> tuple[str, int] | None:
    """max; sum of exp(x - max), kept; each divided by the sum."""
    for count in (4, 3):
        some = ops[start : start + count]
        if len(some) < count or len({op.fixed for op in some}) != 1:
            continue
        greatest = some[0]
        if greatest.combine not in ("max", "maximum") or greatest.value.op != "read":
            continue
        maximum = greatest.target.base
        data = greatest.value.value.base
        powers = [op for op in some[1:-1] if _is_exponential(op, maximum, data)]
        kept = [op for op in powers if not op.combine]
        sums = [op for op in some[1:-1] if op.combine == "add"]
        last = some[-1]
        if len(sums) != 1 or last.combine or len(powers) + (sums[0] not in powers) != count - 2:
            continue
        total, [sum_of] = sums[0].target.base, sums
        own = kept[0].target.base if kept else None
        if sum_of not in powers and not (own and sum_of.value.op == "read" and sum_of.value.value.base == own):
            continue
        if _starts_at_zero(sum_of) and _divides(last, own, total, maximum, data) and _covers_all(some):
            return "softmax", count
    return None


def _covers_all(ops: Sequence[Operation]) -> bool:
    """All of them run over the same elements."""
    return len({len(op.loops) - len(op.fixed) for op in ops}) == 1


def _starts_at_zero(op: Operation, finished: bool = False) -> bool:
    return op.start is not None and op.start.op == "const" and not op.start.value and (finished or op.finish is None)


def _is_exponential(op: Operation, maximum: str, data: str) -> bool:
    value = op.value
    if value.op != "call" or value.value != "exp":
        return False
    terms = summands(value.args[0])
    names = [(s, e.value.base) for s, e in terms if e.op == "read"]
    return len(terms) == 2 and sorted(names) == sorted([(1, data), (-1, maximum)])


def _divides(op: Operation, own: str | None, total: str, maximum: str, data: str) -> bool:
    value = op.value
    if value.op == "fdiv":
        top, bottom = value.args
    elif value.op == "fmul":
        inverse = next((a for a in value.args if a.op == "fdiv"), None)
        if inverse is None or inverse.args[0].op != "const" or inverse.args[0].value != 1.0:
            return False
        top = next(a for a in value.args if a is not inverse)
        bottom = inverse.args[1]
    else:
        return False
    if bottom.op != "read" or bottom.value.base != total:
        return False
    if own is not None:
        return top.op == "read" and top.value.base == own
    return top.op == "call" and top.value == "exp" and {e.base for e in elements(top)} == {maximum, data}


def _layer_norm(ops: Sequence[Operation], start: int) -> tuple[str, int] | None:
    """mean; variance of x - mean; (x - mean) times the inverse root of the variance, scaled and shifted."""
    some = ops[start : start + 3]
    if len(some) < 3 or len({op.fixed for op in some}) != 1:
        return None
    mean, variance, last = some
    if mean.combine != "add" or variance.combine != "add" or last.combine or mean.value.op != "read":
        return None
    data = mean.value.value.base
    if not _starts_at_zero(mean, finished=True) or not _starts_at_zero(variance, finished=True):
        return None
    if not _is_square(variance.value, data, mean.target.base):
        return None
    names = {e.base for e in elements(last.value)}
    centred = any(_is_centred(node, data, mean.target.base) for node in last.value.walk())
    rooted = any(node.op == "call" and node.value == "sqrt" for op in (last, variance) for node in _all_nodes(op))
    if not {data, variance.target.base} <= names or not centred or not rooted or not _covers_all(some):
        return None
    return "layer norm", 3


def _all_nodes(op: Operation) -> list[Expr]:
    parts = [op.value, *([op.finish] if op.finish else [])]
    return [node for part in parts for node in part.walk()]


def _is_centred(value: Expr, data: str, mean: str) -> bool:
    """x - mean, where the sum may be divided here."""
    terms = summands(value) if value.op in ("fsub", "fadd") else []
    signs = {name: sign for sign, term in terms if (name := _read_or_divided(term)) is not None}
    return len(terms) == 2 and signs == {data: 1, mean: -1}


def _read_or_divided(value: Expr) -> str | None:
    """The array of an element, or of one that is divided by, or multiplied with, a number."""
    if value.op in ("fdiv", "fmul"):
        read = [arg for arg in value.args if arg.op in ("read", ACCUMULATED)]
        others = [arg for arg in value.args if arg not in read]
        if (
            len(read) != 1
            or len(others) != 1
            or elements(others[0])
            or (value.op == "fdiv" and value.args[0] != read[0])
        ):
            return None
        [value] = read
    return str(value.value.base) if value.op == "read" else None


def _is_square(value: Expr, data: str, mean: str) -> bool:
    return value.op == "fmul" and value.args[0] == value.args[1] and _is_centred(value.args[0], data, mean)
