"""Operations at given sizes as a relax module: one TensorIR function each, arrays as versions that are never changed.

`main` takes the arrays whose old content matters and the scalars that are used, and returns the new content of what
the function writes. What it returns first is the function's own result, where it has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, te, tirx

from kernels.raising.bodies import Body
from kernels.raising.einsum import Formula, formula_of
from kernels.raising.exact import ExactLoops, dtype_of, scalars
from kernels.raising.findings import Analysis
from kernels.raising.ir import Function
from kernels.raising.memory import CELL, RESULT
from kernels.raising.ops import Operation
from kernels.raising.reasons import Abstained, Reason
from kernels.raising.scalars import DTYPES, FLOATS
from kernels.raising.shapes import Shapes
from kernels.raising.sizes import Sized
from kernels.raising.steps import unrolled
from kernels.raising.sweep_code import function_of
from kernels.raising.sweeps import Sweeps, grouped
from kernels.raising.turned import turned


@dataclass(frozen=True)
class Tensor:
    """An argument of the raised function: the C argument's name and position, its shape and dtype. Scalars have the
    shape (1,). `reached`: elements from the first to the last one that is accessed: the array may end there.
    `anywhere`: kernels take it at any multiple of its elements' size. `direct`: and access no others of its elements;
    an output of that kind may lie where the input of the same name lies. Where an array that is accessed so may end
    within its last row, its shape is flat."""

    name: str
    position: int
    shape: tuple[int, ...]
    dtype: str
    scalar: bool = False
    reached: int = 1
    direct: bool = False
    anywhere: bool = False


@dataclass(frozen=True)
class Raised:
    """`module` has relax `main(inputs...)`, which returns a tuple of `outputs`; `result` is the dtype of the C
    function's value, which then is the first output. `reordered`: there are sums of floats whose order is not kept.
    `formula`: where it is one contraction of whole arrays."""

    module: tvm.IRModule
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    result: str
    patterns: tuple[str, ...]
    reordered: bool
    formula: Formula | None


def raised(
    analysis: Analysis, sizes: Mapping[str, int], allow_reassociation: bool, threads: int = 0
) -> Raised:  # fmt: skip
    """Make a function's operations a module. `sizes` by LLVM's names of the arguments. `threads`: of the CPU that it is
    for; 0 where it is for something else, and loops over rows are no good.

    Raises Abstained where the function is not wholly understood, where a float reduction must keep its order, or where
    the sizes break a requirement.
    """
    if analysis.problem is not None:
        raise analysis.problem
    _check_types(analysis.function)
    if not analysis.operations:
        raise Abstained(Reason.NO_STORE, "a function without loops that store anything", analysis.function.line)
    left = [op.problem for op in analysis.operations if op.problem is not None]
    if left and all(op.problem is not None or not (op.loops or op.combine) for op in analysis.operations):
        raise left[0]
    sized = Sized(analysis, sizes)
    for op in analysis.operations:
        _check(op, allow_reassociation)
    return _Raiser(analysis, sized, threads).run()


def _check_types(function: Function) -> None:
    if function.unusual:
        raise Abstained(Reason.TYPE, function.unusual, function.line)
    known = ("i32", "i64", *FLOATS)
    other = next((argument.type for argument in function.arguments if argument.type not in (*known, "ptr")), None)
    if other is not None or function.result not in ("void", *known):
        words = other or function.result
        raise Abstained(Reason.TYPE, f"an argument or a value of the type {words[:40]}", function.line)


def _check(op: Operation, allow_reassociation: bool) -> None:
    """Raises Abstained for sums and maxima of floats whose order matters."""
    if op.type not in FLOATS or allow_reassociation:
        return
    if op.combine in ("add", "mul") and not op.reordered:
        raise Abstained(
            Reason.REASSOCIATION, "a sum of floats whose order must be kept: compile with -fassociative-math, "
            "or set model.allow_reassociation: true", op.line,
        )  # fmt: skip
    if op.combine in ("max", "min") and not op.value.flags & {"nnan", "fast"}:
        raise Abstained(Reason.REASSOCIATION, "a maximum that treats NaNs by their order", op.line)


class _Raiser:
    def __init__(self, analysis: Analysis, sized: Sized, threads: int) -> None:
        self.analysis, self.sized = analysis, sized
        plain = unrolled(analysis.operations, sized)
        self.formula = formula_of(plain, sized, Shapes(sized, plain))
        self.ops = turned(plain, sized)
        self.shapes = Shapes(sized, self.ops)
        self.places = {a.name: (number, a) for number, a in enumerate(analysis.function.arguments)}
        self.parts: list[Operation | Sweeps] = list(self.ops)
        if threads:
            wanted = {base for op in self.ops for base in op.written if not self._is_local(base)}
            self.parts = grouped(self.ops, sized, self.shapes, wanted, threads)
        self.direct = frozenset(base for base in self.shapes.of if base in self.places and self._is_direct(base))
        self.is_map = bool(threads) and len(self.ops) == 1 and not (self.ops[0].combine or self.ops[0].steps)
        """Whether all is one map: memory bounds it, and a copy of an array would cost as much as it does."""
        self.flat = {
            base: self.shapes.reached[base] for base in self.direct
            if self.shapes.reached.get(base, 0) and self.shapes.reached[base] < math.prod(self.shapes.of[base])
        }  # fmt: skip

    def run(self) -> Raised:
        ops = self.ops
        bases = dict.fromkeys(base for op in ops for base in op.written if not self._is_local(base))
        written = sorted(bases, key=lambda base: (base != RESULT, base))
        inputs = self._inputs(ops)
        module = self._module(inputs, written)
        outputs = tuple(map(self._tensor, written))
        dtype = DTYPES[self.analysis.function.result] if RESULT in bases else ""
        patterns = tuple(dict.fromkeys(f.pattern for f in self.analysis.findings if f.pattern))
        reordered = any(op.combine in ("add", "mul") and op.type in FLOATS for op in ops)
        return Raised(module, tuple(inputs), outputs, dtype, patterns, reordered, self.formula)

    def _module(self, inputs: Sequence[Tensor], written: Sequence[str]) -> tvm.IRModule:
        builder = relax.BlockBuilder()
        variables = {t.name: relax.Var(f"argument{t.position}", relax.TensorType(t.shape, t.dtype)) for t in inputs}
        with builder.function("main", list(variables.values())):
            with builder.dataflow():
                current: dict[str, relax.Expr] = dict(variables)
                for number, part in enumerate(self.parts):
                    if isinstance(part, Sweeps):
                        current |= self._emit_sweeps(builder, part, current)
                    else:
                        current |= self._emit(builder, number, part, current)
                result = builder.emit_output(relax.Tuple([current[base] for base in written]))
            builder.emit_func_output(result)
        return builder.get()

    # --- arguments

    def _is_local(self, base: str) -> bool:
        """Whether only the function itself sees the array."""
        return base.startswith(CELL) or (base.startswith("%") and base not in self.places)

    def _inputs(self, ops: Sequence[Operation]) -> list[Tensor]:
        """Arrays that are read before they are wholly written, and scalars."""
        bases: dict[str, None] = {}
        names: dict[str, None] = {}
        complete: set[str] = set()
        for op in ops:
            own = {base for base in op.written if op.steps and base.startswith(CELL)}
            for element in op.reads:
                if element.base not in complete | own:
                    bases[element.base] = None
            names |= dict.fromkeys(scalars(op))
            if op.combine and not op.steps and op.start is None and op.target.base not in complete:
                bases[op.target.base] = None
            for base in op.written:
                if self.shapes.is_whole(op, base):
                    complete.add(base)
                elif base not in complete | own:
                    bases[base] = None
        found = [self._tensor(base) for base in bases]
        for name in names:
            position, argument = self.places[name]
            found.append(Tensor(name, position, (1,), DTYPES[argument.type], scalar=True))
        return sorted(found, key=lambda t: t.position)

    def _tensor(self, base: str) -> Tensor:
        if base == RESULT:
            return Tensor(RESULT, -1, (1,), DTYPES[self.analysis.function.result])
        if base not in self.places:
            local = base.startswith(("%", CELL))
            words = "a local array that is read before it is written" if local else "a global array"
            raise Abstained(Reason.POINTER, words)
        shape = (self.flat[base],) if base in self.flat else self.shapes.of[base]
        return Tensor(
            base, self.places[base][0], shape, DTYPES[self.sized.accesses.arrays[base].type],
            reached=self.shapes.reached.get(base, 1), direct=base in self.direct,
            anywhere=base in self.direct or self.is_map,
        )  # fmt: skip

    def _is_direct(self, base: str) -> bool:
        """Whether all that touches an array does so as the function does: loops over rows. One that is written, too, is
        read for the last time before it is overwritten."""
        touching = [
            part for part in self.parts
            if any(base in op.written or any(e.base == base for e in op.reads) for op in _operations(part))
        ]  # fmt: skip
        if not all(isinstance(part, Sweeps) for part in touching):
            return False
        sweeps = [part for part in touching if isinstance(part, Sweeps)]
        writers = [part for part in sweeps if base in part.outputs]
        if not writers:
            return True
        old = [part for part in sweeps[: sweeps.index(writers[0]) + 1] if base in part.inputs]
        return not old or writers[-1] not in old or base in writers[-1].in_place

    # --- code

    def _emit(
        self, builder: relax.BlockBuilder, number: int, op: Operation, current: Mapping[str, relax.Expr]
    ) -> dict[str, relax.Expr]:
        """The next versions of what the op writes."""
        if op.steps:
            return self._emit_loops(builder, number, op, current)
        names = list(dict.fromkeys([
            *(e.base for e in op.reads), *scalars(op),
            *([op.target.base] if not self.shapes.is_whole(op) or (op.combine and op.start is None) else []),
        ]))  # fmt: skip
        _check_known(names, current)

        def compute(*tensors: te.Tensor) -> te.Tensor:
            return Body(op, dict(zip(names, tensors, strict=True)), self.sized, self.shapes).output()

        made = builder.emit_te(compute, *(current[n] for n in names), primfunc_name_hint=_hint(op))
        if self.is_map:
            name = builder.lookup_binding(made).args[0]
            builder.update_func(name, at_any_place(builder.get()[name]))
        return {op.target.base: made}

    def _emit_sweeps(
        self, builder: relax.BlockBuilder, sweeps: Sweeps, current: Mapping[str, relax.Expr]
    ) -> dict[str, relax.Expr]:
        _check_known(sweeps.inputs, current)
        kinds = {name: str(current[name].ty.dtype) for name in sweeps.inputs}
        function = builder.add_func(function_of(sweeps, kinds, self.flat), "sweeps")
        types = []
        for base in sweeps.outputs:
            shape = (self.flat[base],) if base in self.flat else self.shapes.of[base]
            types.append(relax.TensorType(shape, sweeps.dtype_of(base)))
        made = builder.emit(relax.call_tir(function, [current[n] for n in sweeps.inputs], types))
        if len(types) == 1:
            return {sweeps.outputs[0]: made}
        return {base: builder.emit(relax.TupleGetItem(made, k)) for k, base in enumerate(sweeps.outputs)}

    def _emit_loops(
        self, builder: relax.BlockBuilder, number: int, op: Operation, current: Mapping[str, relax.Expr]
    ) -> dict[str, relax.Expr]:
        rest = [op for part in self.parts[number + 1 :] for op in _operations(part)]
        later = {e.base for other in rest for e in other.reads}
        later |= {other.target.base for other in rest if not other.steps}
        later |= {base for base in op.written if not self._is_local(base)}
        loops = ExactLoops(op, self.sized, self.shapes, current, later)
        _check_known(loops.inputs, current)
        kinds = {name: str(current[name].ty.dtype) for name in loops.inputs}
        kinds |= {base: dtype_of(op, base) for base in op.written}
        types = [relax.TensorType(self.shapes.of[base], kinds[base]) for base in loops.outputs]
        function = builder.add_func(loops.function(kinds), _hint(op))
        made = builder.emit(relax.call_tir(function, [current[n] for n in loops.inputs], types))
        if len(types) == 1:
            return {loops.outputs[0]: made}
        return {base: builder.emit(relax.TupleGetItem(made, k)) for k, base in enumerate(loops.outputs)}


def at_any_place(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """A program whose arguments may lie at any multiple of their elements' size."""
    loose = {
        given: tirx.decl_buffer(given.shape, str(given.dtype), given.name, data_alignment=_bytes_of(given))
        for given in function.params
    }
    body = tvm_ffi.structural_map(function.body, (tirx.Var, lambda var: loose.get(var, var)))
    attributes = {name: function.attrs[name] for name in function.attrs.keys()}  # noqa: SIM118 - a map of TVM's
    return tirx.PrimFunc([loose[given] for given in function.params], body).with_attrs(attributes)


def _bytes_of(buffer: Any) -> int:
    return max(1, int(tvm.DataType(str(buffer.dtype)).bits) // 8)


def _operations(part: Operation | Sweeps) -> list[Operation]:
    return [m.op for m in part.maps] if isinstance(part, Sweeps) else [part]


def _check_known(names: Sequence[str], current: Mapping[str, relax.Expr]) -> None:
    missing = [name for name in names if name not in current]
    if missing:
        raise Abstained(Reason.POINTER, f"{missing[0]} is read before it is written")


def _hint(op: Operation) -> str:
    known = {"": "map", "add": "sum", "mul": "product", "max": "maximum", "min": "minimum"}
    return known.get(op.combine, op.combine.partition("-")[0])
