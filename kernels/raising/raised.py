"""Operations at given sizes as a relax module: one TensorIR function each, arrays as versions that are never changed.

`main` takes the arrays whose old content matters and the scalars that are used, and returns the new content of what
the function writes. What it returns first is the function's own result, where it has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, te, tirx

from kernels.raising.access import Element
from kernels.raising.expressions import Condition, Expr
from kernels.raising.findings import Analysis
from kernels.raising.memory import CELL, RESULT
from kernels.raising.ops import ACCUMULATED, Operation
from kernels.raising.polyhedra import isl
from kernels.raising.polynomials import Poly
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.sizes import Sized
from kernels.raising.tensor_operators import (
    CASTS,
    COMBINED,
    NEUTRAL,
    OPERATORS,
    REDUCERS,
    bounds,
    box_text,
    called,
    compared,
    membership,
    neutral_of,
)

_TYPES = {"float": "float32", "double": "float64", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64"}
MOST_BYTES = 1 << 34


@dataclass(frozen=True)
class Tensor:
    """An argument of the raised function: the C argument's name and position, its shape and dtype. Scalars have the
    shape (1,). `reached`: elements from the first to the last one that is accessed: the array may end there."""

    name: str
    position: int
    shape: tuple[int, ...]
    dtype: str
    scalar: bool = False
    reached: int = 1


@dataclass(frozen=True)
class Raised:
    """`module` has relax `main(inputs...)`, which returns a tuple of `outputs`; `result` is the dtype of the C
    function's value, which then is the first output."""

    module: tvm.IRModule
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    result: str
    patterns: tuple[str, ...]


def raised(analysis: Analysis, sizes: Mapping[str, int], allow_reassociation: bool) -> Raised:
    """Make a function's operations a module. `sizes` by LLVM's names of the arguments.

    Raises Abstained where the function is not wholly understood, where a float reduction must keep its order, or where
    the sizes break a requirement.
    """
    if analysis.problem is not None:
        raise analysis.problem
    known = ("i32", "i64", "float", "double", "ptr")
    kinds = [argument.type for argument in analysis.function.arguments]
    other = next((kind for kind in kinds if kind not in known), None)
    if other is not None or analysis.function.result not in ("void", *known[:-1]):
        words = other or analysis.function.result
        raise Abstained(Reason.TYPE, f"an argument or a value of the type {words[:40]}", analysis.function.line)
    if not analysis.operations:
        raise Abstained(Reason.NO_STORE, "a function without loops that store anything", analysis.function.line)
    return _Raiser(analysis, Sized(analysis, sizes), allow_reassociation).run()


class _Raiser:
    def __init__(self, analysis: Analysis, sized: Sized, allow: bool) -> None:
        self.analysis, self.sized, self.allow = analysis, sized, allow
        self.accesses = sized.accesses
        self.places = {a.name: (number, a) for number, a in enumerate(analysis.function.arguments)}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.first: dict[str, int] = {}
        self.reached: dict[str, int] = {}

    def run(self) -> Raised:
        ops = self.analysis.operations
        for op in ops:
            self._admissible(op)
        self._measure(ops)
        written = list(dict.fromkeys(op.target.base for op in ops if not op.target.base.startswith(CELL)))
        written.sort(key=lambda base: (base != RESULT, base))
        inputs = self._inputs(ops)
        builder = relax.BlockBuilder()
        variables = {
            t.name: relax.Var(_identifier(t.name, t.position), relax.TensorType(t.shape, t.dtype)) for t in inputs
        }
        with builder.function("main", list(variables.values())):
            with builder.dataflow():
                current: dict[str, relax.Expr] = dict(variables)
                for op in ops:
                    current[op.target.base] = self._emit(builder, op, current)
                outputs = [self._tensor(base) for base in written]
                result = builder.emit_output(relax.Tuple([current[base] for base in written]))
            builder.emit_func_output(result)
        dtype = _TYPES[self.analysis.function.result] if RESULT in written else ""
        patterns = tuple(dict.fromkeys(f.pattern for f in self.analysis.findings if f.pattern))
        return Raised(builder.get(), tuple(inputs), tuple(outputs), dtype, patterns)

    # --- what may be raised

    def _admissible(self, op: Operation) -> None:
        line = op.lines[0] if op.lines else None
        if op.fixed:
            raise Abstained(Reason.SEQUENTIAL, "loops that must stay in order", line)
        if op.combine.startswith(("scan", "arg")):
            raise Abstained(Reason.SEQUENTIAL, f"a {op.combine.partition('-')[0]} is recognized but not raised", line)
        floats = op.type in ("float", "double")
        if floats and op.combine in ("add", "mul") and not (op.reordered or self.allow):
            raise Abstained(
                Reason.REASSOCIATION, "a sum of floats whose order must be kept: compile with -fassociative-math, "
                "or set model.allow_reassociation: true", line,
            )  # fmt: skip
        if floats and op.combine in ("max", "min") and not self.allow and not _is_call(op):
            raise Abstained(Reason.REASSOCIATION, "a maximum that treats NaNs by their order", line)

    # --- shapes

    def _measure(self, ops: Sequence[Operation]) -> None:
        """The shape of every array: what its accesses reach."""
        for op in ops:
            domain, cover = self.sized.at(op.domain), self.sized.at(op.cover)
            self._reach(op.target, op.kept, cover)
            for element in op.reads:
                counters = {s for p in element.subscripts for s in p.symbols}
                if counters & set(op.reduced):
                    self._reach(element, op.loops, domain)
                else:
                    self._reach(element, op.kept, cover)
        for base, outer in self.first.items():
            extents = [] if base.startswith((CELL, RESULT)) else self.accesses.arrays[base].extents
            self.shapes[base] = (outer, *(self.sized.number(extent) for extent in extents))
            if math.prod(self.shapes[base]) * 8 > MOST_BYTES:
                raise Abstained(Reason.SIZES, f"an array of the shape {list(self.shapes[base])}")
        for op in ops:
            if op.target.base.startswith(CELL):
                self._cell_shape(op)

    def _cell_shape(self, op: Operation) -> None:
        """A cell has an extent for each loop that it is kept for."""
        shape = []
        cover = self.sized.at(op.cover)
        for poly in op.target.subscripts:
            high = self._range(poly, op.kept, cover)[1]
            shape.append(high + 1)
        known = self.shapes.get(op.target.base, ())
        grown = [max(a, b) for a, b in zip(shape, known, strict=True)] if len(known) == len(shape) else shape
        self.shapes[op.target.base] = tuple(grown) or (1,)

    def _reach(self, element: Element, loops: Sequence[str], domain: isl.Set) -> None:
        if element.base == RESULT or not element.subscripts:
            self.first.setdefault(element.base, 1)
            return
        if domain.is_empty():
            self.first.setdefault(element.base, 1)
            return
        low, high = self._range(element.subscripts[0], loops, domain)
        if low < 0:
            raise Abstained(Reason.SUBSCRIPT, "a subscript below the start of its array")
        self.first[element.base] = max(self.first.get(element.base, 1), high + 1)
        if not element.base.startswith(CELL):
            self._reach_flat(element, loops, domain)

    def _reach_flat(self, element: Element, loops: Sequence[str], domain: isl.Set) -> None:
        """Note the last element, counted from the array's start."""
        extents = [self.sized.number(extent) for extent in self.accesses.arrays[element.base].extents]
        flat = element.subscripts[0]
        for poly, extent in zip(element.subscripts[1:], extents, strict=True):
            flat = flat * extent + poly
        last = self._range(flat, loops, domain)[1]
        self.reached[element.base] = max(self.reached.get(element.base, 1), last + 1)

    def _range(self, poly: Poly, loops: Sequence[str], domain: isl.Set) -> tuple[int, int]:
        value = poly.substitute(self.sized.values)
        text = self.accesses.polyhedra.text(value, frozenset(loops))
        image = domain.apply(isl.Map(f"{{ [{', '.join(loops)}] -> [{text}] }}"))
        return int(image.dim_min_val(0).to_python()), int(image.dim_max_val(0).to_python())

    # --- arguments

    def _inputs(self, ops: Sequence[Operation]) -> list[Tensor]:
        """Arrays that are read before they are wholly written, and scalars."""
        bases: dict[str, None] = {}
        scalars: dict[str, None] = {}
        complete: set[str] = set()
        for op in ops:
            for element in op.reads:
                if element.base not in complete:
                    bases[element.base] = None
            for part in (op.value, op.start, op.finish):
                for node in part.walk() if part is not None else ():
                    if node.op == "param":
                        scalars[node.value] = None
            if op.combine and op.start is None and op.target.base not in complete:
                bases[op.target.base] = None
            if self._is_whole(op):
                complete.add(op.target.base)
            elif op.target.base not in complete:
                bases[op.target.base] = None
        found = [self._tensor(base) for base in bases]
        for name in scalars:
            position, argument = self.places[name]
            found.append(Tensor(name, position, (1,), _TYPES[argument.type], scalar=True))
        return sorted(found, key=lambda t: t.position)

    def _tensor(self, base: str) -> Tensor:
        if base == RESULT:
            return Tensor(RESULT, -1, (1,), _TYPES[self.analysis.function.result])
        if base not in self.places:
            words = (
                "a local array that is read before it is written" if base.startswith(("%", CELL)) else "a global array"
            )
            raise Abstained(Reason.POINTER, words)
        return Tensor(
            base, self.places[base][0], self.shapes[base], _TYPES[self.accesses.arrays[base].type],
            reached=self.reached.get(base, 1),
        )  # fmt: skip

    def _is_whole(self, op: Operation) -> bool:
        """Whether every element of the target is written."""
        shape = self.shapes[op.target.base]
        if not op.target.subscripts:
            return True
        cover = self.sized.at(op.cover)
        values = [self._affine(p, op.kept) for p in op.target.subscripts]
        written = cover.apply(isl.Map(f"{{ [{', '.join(op.kept)}] -> [{', '.join(values)}] }}"))
        names = [f"d{k}" for k in range(len(shape))]
        bounds = " and ".join(f"0 <= {name} < {extent}" for name, extent in zip(names, shape, strict=True))
        return bool(isl.Set(f"{{ [{', '.join(names)}] : {bounds} }}").is_subset(written))

    def _affine(self, poly: Poly, loops: Sequence[str]) -> str:
        return self.accesses.polyhedra.text(poly.substitute(self.sized.values), frozenset(loops))

    # --- code

    def _emit(self, builder: relax.BlockBuilder, op: Operation, current: Mapping[str, relax.Expr]) -> relax.Expr:
        """The next version of the op's target."""
        names = list(dict.fromkeys([
            *(e.base for e in op.reads), *self._scalars(op),
            *([op.target.base] if not self._is_whole(op) or (op.combine and op.start is None) else []),
        ]))  # fmt: skip
        missing = [name for name in names if name not in current]
        if missing:
            raise Abstained(Reason.POINTER, f"{missing[0]} is read before it is written")

        def compute(*tensors: te.Tensor) -> te.Tensor:
            return _Body(self, op, dict(zip(names, tensors, strict=True))).output()

        return builder.emit_te(compute, *(current[name] for name in names), primfunc_name_hint=_hint(op))

    def _scalars(self, op: Operation) -> list[str]:
        parts = [part for part in (op.value, op.start, op.finish) if part is not None]
        return [node.value for part in parts for node in part.walk() if node.op == "param"]


class _Body:
    """One operation in tensor expressions."""

    def __init__(self, raiser: _Raiser, op: Operation, tensors: Mapping[str, te.Tensor]) -> None:
        self.raiser, self.op, self.tensors = raiser, op, tensors
        self.dtype = _TYPES[op.type]
        self.shape = raiser.shapes[op.target.base]
        self.whole = raiser._is_whole(op)  # noqa: SLF001  its own part

    def output(self) -> te.Tensor:
        if not self.op.combine:
            return te.compute(
                self.shape, lambda *at: self._guarded(at, lambda env: self.value(self.op.value, env)), "written"
            )
        partial = self._reduced()
        if partial is None:
            raise Abstained(Reason.SIZES, "a reduction over nothing")
        if self._is_plain():
            return partial
        return te.compute(
            self.shape, lambda *at: self._guarded(at, lambda env: self._finished(partial(*at), at, env)), "written"
        )

    def _is_plain(self) -> bool:
        """Whether the reduction itself is the result."""
        op = self.op
        zero = op.start is not None and op.start.op == "const" and op.start.value == NEUTRAL.get(op.combine)
        return self.whole and zero and op.finish is None

    def _finished(self, reduced: Any, at: Sequence[Any], env: Mapping[str, Any]) -> Any:
        op = self.op
        start = self.tensors[op.target.base](*at) if op.start is None else self.value(op.start, env)
        neutral = op.start is not None and op.start.op == "const" and op.start.value == NEUTRAL.get(op.combine)
        total = reduced if neutral else COMBINED[op.combine](start, reduced)
        return total if op.finish is None else self.value(op.finish, env, total)

    def _reduced(self) -> te.Tensor | None:
        op, raiser = self.op, self.raiser
        domain = raiser.sized.at(op.domain)
        if domain.is_empty():
            return None
        ranges = {c: bounds(domain, op.loops.index(c)) for c in op.loops}
        axes = {c: te.reduce_axis((0, ranges[c][1] - ranges[c][0] + 1), c) for c in op.reduced}
        box = isl.Set(box_text(op.loops, ranges))
        exact = box.is_subset(domain)

        def term(*at: Any) -> Any:
            env = self._counters(at) | {c: axes[c] + ranges[c][0] for c in op.reduced}
            value = self.value(op.value, env)
            guards = []
            if not exact:
                guards.append(membership(domain.gist(box), op.loops, env))
            if not self.whole:
                guards.append(self._inside(at))
            if guards:
                neutral = neutral_of(op.combine, self.dtype)
                value = tirx.if_then_else(tirx.all(*guards), value, neutral)
            return REDUCERS[op.combine](value, list(axes.values()))

        return te.compute(self.shape, term, "reduced")

    # --- where it writes

    def _counters(self, at: Sequence[Any]) -> dict[str, Any]:
        """The parallel counters in terms of the target's subscripts. Raises Abstained where they do not follow."""
        env: dict[str, Any] = {}
        for index, poly in zip(at, self.op.target.subscripts, strict=False):
            value = poly.substitute(self.raiser.sized.values)
            symbols = [c for c in self.op.kept if c in value.symbols]
            if not symbols:
                continue
            factor = value.coefficient(symbols[0]).constant if len(symbols) == 1 else None
            if factor not in (1, -1) or symbols[0] in env:
                raise Abstained(Reason.SUBSCRIPT, "a result whose subscripts are no plain counters")
            rest = value.without(symbols).constant or 0
            env[symbols[0]] = index - rest if factor == 1 else rest - index
        if any(c not in env for c in self.op.kept):
            raise Abstained(Reason.SUBSCRIPT, "a result that does not have all its counters")
        return env

    def _inside(self, at: Sequence[Any]) -> Any:
        """Whether the element at this place is written."""
        cover = self.raiser.sized.at(self.op.cover)
        parts = [membership(cover, self.op.kept, self._counters(at))] if self.op.kept else []
        for index, poly in zip(at, self.op.target.subscripts, strict=False):
            constant = poly.substitute(self.raiser.sized.values).constant
            if constant is not None:
                parts.append(index == constant)
        return tirx.all(*parts)

    def _guarded(self, at: Sequence[Any], inside: Callable[[Mapping[str, Any]], Any]) -> Any:
        value = inside(self._counters(at))
        if self.whole:
            return value
        return tirx.if_then_else(self._inside(at), value, self.tensors[self.op.target.base](*at))

    # --- values

    def value(self, expr: Expr, env: Mapping[str, Any], reduced: Any = None) -> Any:
        kind = _TYPES.get(expr.type, "bool")
        if expr.op == ACCUMULATED:
            return reduced
        if expr.op == "const":
            return tirx.const(expr.value, kind)
        if expr.op == "param":
            return self.tensors[expr.value][0]
        if expr.op == "index":
            return self._index(expr.value, env).astype(kind)
        if expr.op == "read":
            at = [self._index(p, env) for p in expr.value.subscripts] or [0]
            return self.tensors[expr.value.base](*at)
        if expr.op == "select":
            a, b = (self.value(arg, env, reduced) for arg in expr.args)
            return tirx.if_then_else(self._condition(expr.value, env, reduced), a, b)
        args = [self.value(arg, env, reduced) for arg in expr.args]
        if expr.op == "call":
            return called(expr.value, args)
        if expr.op in CASTS:
            return args[0].astype(kind)
        if expr.op in OPERATORS:
            return OPERATORS[expr.op](*args)
        raise Abstained(Reason.OPERATOR, f"the operator {expr.op} is not raised")

    def _index(self, poly: Poly, env: Mapping[str, Any]) -> Any:
        value = poly.substitute(self.raiser.sized.values)
        total: Any = tirx.const(value.constant_term, "int32")
        for monomial, factor in value.terms:
            if not monomial:
                continue
            if len(monomial) > 1 or monomial[0] not in env:
                raise Abstained(Reason.SIZES, f"no size is given for {monomial[0]}")
            total = total + env[monomial[0]] * factor
        return total

    def _condition(self, condition: Condition, env: Mapping[str, Any], reduced: Any) -> Any:
        kind = condition.kind
        if kind in ("true", "false"):
            return tirx.const(kind == "true", "bool")
        if kind in ("and", "or"):
            parts = [self._condition(part, env, reduced) for part in condition.parts]
            return tirx.all(*parts) if kind == "and" else tirx.any(*parts)
        if kind == "not":
            return tirx.Not(self._condition(condition.parts[0], env, reduced))
        if condition.poly is not None:
            value = self._index(condition.poly, env)
            return value >= 0 if kind == "ge" else value.equal(0) if kind == "eq" else tirx.NE(value, 0)
        assert condition.value is not None
        a, b = (self.value(arg, env, reduced) for arg in condition.value.args)
        return compared(condition.value.value, a, b)


def _is_call(op: Operation) -> bool:
    return "nnan" in op.value.flags or "fast" in op.value.flags


def _hint(op: Operation) -> str:
    return {"": "map", "add": "sum", "mul": "product", "max": "maximum", "min": "minimum"}[op.combine]


def _identifier(name: str, position: int) -> str:
    return f"argument{position}"
