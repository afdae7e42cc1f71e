"""What operations are called. A label follows from index maps and operators alone; where none fits, a reason."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.raising.access import Element
from kernels.raising.expressions import Expr
from kernels.raising.ops import Operation, elements
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.substitution import substituted_value
from kernels.raising.updates import summands

_WORDS = {"add": "sum", "mul": "product", "max": "max", "min": "min", "maximum": "max", "minimum": "min"}
_CASTS = ("sext", "zext", "fpext", "fptrunc", "sitofp", "uitofp", "trunc")


@dataclass(frozen=True)
class Label:
    """`pattern`: contraction, convolution, stencil, reduction, pooling, scan, transpose, copy, fill, elementwise,
    softmax, layer norm. `detail`: index maps in words."""

    pattern: str
    detail: str


def label(op: Operation) -> Label:
    """Raises Abstained where the operation is a tensor computation without a name."""
    op = _forward(op)
    if op.combine.startswith("scan"):
        return Label("scan", f"{_WORDS[op.combine.removeprefix('scan-')]} along {op.reduced[0]}")
    if op.combine.startswith("arg"):
        return Label("reduction", op.combine)
    if op.combine:
        return _reduction(op)
    return _map(op)


def _forward(op: Operation) -> Operation:
    """The operation with counters that run backwards everywhere turned round."""
    polys = [p for e in (op.target, *op.reads) for p in e.subscripts]
    back = {}
    for counter in op.loops:
        factors = [p.coefficient(counter).constant for p in polys if counter in p.symbols]
        if factors and all(factor is not None and factor < 0 for factor in factors):
            back[counter] = -Poly.of(counter)
    if not back:
        return op
    target = Element(op.target.base, tuple(p.substitute(back) for p in op.target.subscripts))
    start, finish = (None if part is None else substituted_value(part, back) for part in (op.start, op.finish))
    return replace(op, target=target, value=substituted_value(op.value, back), start=start, finish=finish)


# --- reductions ------------------------------------------------------------------------------------------------------


def _reduction(op: Operation) -> Label:
    factors = product(op.value)
    tensors = [e for f in factors or [] if (e := _tensor(f)) is not None]
    plain = factors is not None and all(
        _tensor(f) is not None or (not elements(f) and not _has_index(f)) for f in factors
    )
    distinct = list(dict.fromkeys(tensors))
    if op.combine == "add" and plain and len(distinct) >= 2:
        return _contraction(op, distinct)
    return _plain_reduction(op)


def _contraction(op: Operation, factors: Sequence[Element]) -> Label:
    operands = [*factors, op.target]
    if all(_is_pure(e, op) for e in operands):
        if len({f.subscripts for f in factors}) == 1 and not op.parallel:
            return Label("contraction", "dot " + einsum(op, factors))
        return Label("contraction", einsum(op, factors))
    if not _is_pure(op.target, op):
        raise Abstained(Reason.SUBSCRIPT, "a result whose subscripts are no plain counters", op.line)
    windows = [f for f in factors if not _is_pure(f, op)]
    kernels = [f for f in factors if _is_pure(f, op)]
    if len(windows) == 1 and len(kernels) == 1:
        found = _convolution(op, windows[0], kernels[0])
        if found is not None:
            return found
    raise Abstained(Reason.SUBSCRIPT, "a sum of products whose subscripts are those of no contraction or convolution",
                    op.line)  # fmt: skip


def _convolution(op: Operation, data: Element, weights: Element) -> Label | None:
    """Every window dimension is stride * output + dilation * tap; taps are the weights' counters."""
    taps = set(_counters(weights, op))
    if len(_counters(data, op)) > len(set(_counters(data, op))):
        return None
    parallel, reduced = set(op.parallel), set(op.reduced)
    used: set[str] = set()
    words = []
    for poly in data.subscripts:
        inside = [c for c in op.loops if c in poly.symbols and c not in op.fixed]
        if len(inside) <= 1:
            if inside and poly.coefficient(inside[0]).constant != 1:
                return None
            used |= set(inside)
            continue
        outer, inner = [c for c in inside if c in parallel], [c for c in inside if c in reduced]
        if len(outer) != 1:
            if not _is_group_dimension(inside, parallel, taps):
                return None
            used |= set(inside)
            words.append("groups")
            continue
        if len(inner) != 1 or inner[0] not in taps:
            return None
        stride, dilation = (poly.coefficient(c).constant for c in (outer[0], inner[0]))
        if stride is None or dilation is None or stride < 1 or dilation == 0:
            return None
        used |= set(inside)
        offset = poly.without(inside)
        words.append(
            f"stride {stride}, dilation {abs(dilation)}" + (f", padding {(-offset).text()}" if offset.terms else "")
        )
    windows = sum(word.startswith("stride") for word in words)
    if not 1 <= windows <= 3 or not reduced <= taps | used:
        return None
    return Label("convolution", f"{windows}d: " + "; ".join(words))


def _is_group_dimension(inside: Sequence[str], parallel: set[str], taps: set[str]) -> bool:
    """group * channels + channel, where the group is an output's counter."""
    outer = [c for c in inside if c in parallel]
    inner = [c for c in inside if c not in parallel]
    return len(outer) == 1 and len(inner) == 1 and inner[0] in taps


def _plain_reduction(op: Operation) -> Label:
    read = [e for e in op.reads if e.base != op.target.base]
    inside = list(dict.fromkeys(e for e in elements(op.value)))
    name = _WORDS[op.combine]
    if not inside:
        raise Abstained(Reason.LINEAR, "a sum of what is not read from memory", op.line)
    if all(_is_pure(e, op) for e in inside):
        if len({e.subscripts for e in inside}) > 1 and not _is_broadcast(inside, op):
            reason = Reason.LINEAR if op.combine == "add" else Reason.SEMIRING
            raise Abstained(reason, f"a {name} over what combines several tensors otherwise than by products", op.line)
        return Label(
            "reduction",
            f"{name} over {', '.join(op.reduced)}" + (" of a map" if read and _tensor(op.value) is None else ""),
        )
    if len(inside) == 1 and op.value.op == "read" and _is_window(inside[0], op):
        return Label("pooling", f"{name} over windows {', '.join(op.reduced)}")
    raise Abstained(Reason.SUBSCRIPT, f"a {name} with subscripts of no known form", op.line)


def _is_broadcast(inside: Sequence[Element], op: Operation) -> bool:
    """Whether one tensor has all reduced counters and the others none of them: x - mean, in a variance."""
    full = [e for e in inside if set(op.reduced) <= set(_counters(e, op))]
    others = [e for e in inside if e not in full]
    return (
        bool(full)
        and len({e.subscripts for e in full}) == 1
        and not any(set(op.reduced) & set(_counters(e, op)) for e in others)
    )


def _is_window(element: Element, op: Operation) -> bool:
    for poly in element.subscripts:
        inside = [c for c in op.loops if c in poly.symbols and c not in op.fixed]
        if len(inside) > 2 or (len(inside) == 2 and len(set(inside) & set(op.reduced)) != 1):
            return False
        if any((poly.coefficient(c).constant or 0) < 1 for c in inside):
            return False
    return True


# --- maps ---------------------------------------------------------------------------------------


def _map(op: Operation) -> Label:
    read = list(dict.fromkeys(elements(op.value)))
    if not read:
        return Label("fill", "an index" if _has_index(op.value) else "one value")
    if not _is_pure(op.target, op):
        raise Abstained(Reason.SUBSCRIPT, "a result whose subscripts are no plain counters", op.line)
    if not all(_is_pure(e, op) for e in read):
        raise Abstained(Reason.SUBSCRIPT, "subscripts of no known form", op.line)
    if _is_stencil(read):
        return Label("stencil", f"{len(read)} points")
    outer = _outer_product(op)
    if outer is not None:
        return outer
    order = tuple(_counters(op.target, op))
    if op.value.op == "read" and tuple(_counters(read[0], op)) != order:
        if sorted(_counters(read[0], op)) == sorted(order):
            return Label("transpose", einsum(op, read))
        return Label("elementwise", "broadcast " + einsum(op, read))
    if op.value.op == "read":
        return Label("copy", einsum(op, read))
    return Label("elementwise", einsum(op, read))


def _is_stencil(read: Sequence[Element]) -> bool:
    """One array at several constant distances, in the order of the result's counters."""
    by_base: dict[str, set[Element]] = {}
    for element in read:
        by_base.setdefault(element.base, set()).add(element)
    for some in by_base.values():
        shapes = {tuple(p - p.constant_term for p in e.subscripts) for e in some}
        if len(some) > 1 and len(shapes) == 1 and any(p.symbols for p in next(iter(shapes))):
            return True
    return False


def _outer_product(op: Operation) -> Label | None:
    """C[i, j] (+)= a[i] * b[j]."""
    own = Expr("read", op.type, value=op.target)
    terms = [t for _, t in summands(op.value) if t != own]
    if len(terms) != 1:
        return None
    factors = product(terms[0])
    if factors is None:
        return None
    tensors = [e for f in factors if (e := _tensor(f)) is not None]
    counters = [set(_counters(e, op)) for e in tensors]
    whole = set(op.parallel)
    if len(tensors) < 2 or any(c == whole for c in counters) or set().union(*counters) != whole:
        return None
    if any(elements(f) and _tensor(f) is None for f in factors):
        return None
    return Label("contraction", "outer " + einsum(op, tensors))


# --- helpers ------------------------------------------------------------------------------------


def product(value: Expr) -> list[Expr] | None:
    """The factors of a product (signs and widenings looked through); None where it is a sum."""
    if value.op in ("fmul", "mul"):
        parts = [product(arg) for arg in value.args]
        return None if None in parts else [f for part in parts if part is not None for f in part]
    if value.op in ("fneg", "neg", *_CASTS) and not (value.op in _CASTS and value.args[0].op == "read"):
        return product(value.args[0])
    if value.op in ("fadd", "fsub", "add", "sub") and elements(value):
        return None
    return [value]


def _tensor(factor: Expr) -> Element | None:
    """The element that a factor is, looked through widenings."""
    while factor.op in _CASTS:
        factor = factor.args[0]
    return factor.value if factor.op == "read" else None


def _has_index(value: Expr) -> bool:
    return any(node.op == "index" for node in value.walk())


def _counters(element: Element, op: Operation) -> list[str]:
    return [c for p in element.subscripts for c in op.loops if c in p.symbols and c not in op.fixed]


def _is_pure(element: Element, op: Operation) -> bool:
    """Each subscript is one counter (plus a constant or parameter), each counter in one subscript; or no counter."""
    seen: list[str] = []
    for poly in element.subscripts:
        inside = [c for c in op.loops if c in poly.symbols and c not in op.fixed]
        if len(inside) > 1 or (inside and poly.coefficient(inside[0]).constant != 1):
            return False
        seen += inside
    return len(seen) == len(set(seen))


def einsum(op: Operation, operands: Sequence[Element]) -> str:
    """Index maps with a letter a counter: `ik,kj->ij`."""
    loops = [*op.parallel, *op.reduced]
    letters = dict(zip(loops, itertools.chain("ijklmnpqrstuvwxyz", (f"x{n}" for n in range(99))), strict=False))
    parts = ["".join(letters[c] for c in _counters(e, op)) for e in operands]
    return ",".join(parts) + "->" + "".join(letters[c] for c in _counters(op.target, op))
