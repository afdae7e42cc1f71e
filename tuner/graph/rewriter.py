"""Rebuilding a relax function binding by binding: the engine under cleaning and layout assignment."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Call, GenericConst

Array = NDArray[Any]


def shape_of(expr: Any) -> tuple[int, ...]:
    """The static shape of a relax tensor expression. Raises ValueError when a dimension is symbolic."""
    try:
        return tuple(int(extent) for extent in expr.ty.shape)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the shape of {expr} is not static") from error


def array_of(expr: Any) -> Array | None:
    """The value of a constant expression, or None."""
    return np.asarray(expr.value.numpy()) if isinstance(expr, GenericConst) else None


def constant_of(array: Array) -> Any:
    """A constant expression of the array's own dtype. `relax.const` alone narrows int64 and float64 to 32 bits."""
    return relax.const(array, str(array.dtype))


def op_name(call: Call) -> str:
    """`relax.nn.conv2d` for an operator call, otherwise the empty string."""
    return str(call.op.name) if isinstance(call.op, tvm.ir.Op) else ""


def producer(builder: relax.BlockBuilder, value: Any) -> Call | None:
    """The call that a variable was bound to by a builder; None for anything else."""
    bound = builder.lookup_binding(value) if isinstance(value, relax.Var) else None
    return bound if isinstance(bound, Call) else None


class Rewriter:
    """Walks `main` in order and emits it anew. Subclasses override `visit`.

    A *value* stands for what a variable was bound to: a relax expression, a tuple of values, or
    whatever a subclass defers; `materialize` turns any value into an expression.
    """

    def __init__(self, module: tvm.IRModule) -> None:
        self.module = module
        self.builder = relax.BlockBuilder()
        self._values: dict[Any, Any] = {}
        self.uses: Counter[Any] = Counter()

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        """The value of one call whose arguments have been rewritten to the given values."""
        return self.emit(Call(call.op, [self.materialize(a) for a in args], call.attrs, call.ty_args))

    def materialize(self, value: Any) -> Any:
        """An expression for a value; a tuple of values becomes a relax tuple."""
        if isinstance(value, tuple):
            return relax.Tuple([self.materialize(v) for v in value])
        return value

    def emit(self, expr: Any) -> Any:
        return self.builder.emit(expr)

    def run(self) -> tvm.IRModule:
        """The rewritten module. Functions other than `main` are kept; parameters get names that are identifiers:
        ONNX allows `gpu_0/data_0`, and CUDA's compiler does not."""
        main = self.module["main"]
        params = _plainly_named(main.params)
        self._values.update(zip(main.params, params, strict=True))
        for var, function in self.module.functions.items():
            if var.name_hint != "main":
                self._values[var] = self.builder.add_func(function, var.name_hint)
        bindings = [b for block in main.body.blocks for b in block.bindings]
        for binding in bindings:
            self.uses.update(variables_of(binding.value))
        self.uses.update(variables_of(main.body.body))
        with self.builder.function("main", params, attrs={"num_input": len(params)}):
            with self.builder.dataflow():
                for binding in bindings:
                    self._values[binding.var] = self._bind(binding)
                result = self.builder.emit_output(self.materialize(self._lookup(main.body.body)))
            self.builder.emit_func_output(result)
        return self.builder.finalize()

    def _bind(self, binding: Any) -> Any:
        value = binding.value
        if isinstance(value, Call):
            return self.visit(binding.var, value, [self._lookup(a) for a in value.args])
        return self._lookup(value)

    def _lookup(self, expr: Any) -> Any:
        if expr in self._values:
            return self._values[expr]
        if isinstance(expr, tvm.ir.TupleGetItem):
            value = self._lookup(expr.tuple_value)
            return value[expr.index] if isinstance(value, tuple) else self.emit(relax.TupleGetItem(value, expr.index))
        if isinstance(expr, relax.Tuple):
            return tuple(self._lookup(field) for field in expr.fields)
        return expr


def _plainly_named(params: Sequence[Any]) -> list[Any]:
    taken: Counter[str] = Counter()
    plain = []
    for param in params:
        name = re.sub(r"\W", "_", param.name, flags=re.ASCII)
        name = name if name[:1].isalpha() else f"arg_{name}"
        taken[name] += 1
        name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        plain.append(param if name == param.name else relax.Var(name, param.ty))
    return plain


def variables_of(expr: Any) -> Iterator[Any]:
    """The variables an expression reads directly."""
    if isinstance(expr, Call):
        for arg in expr.args:
            yield from variables_of(arg)
    elif isinstance(expr, relax.Tuple):
        for item in expr.fields:
            yield from variables_of(item)
    elif isinstance(expr, tvm.ir.TupleGetItem):
        yield from variables_of(expr.tuple_value)
    elif isinstance(expr, relax.Var):
        yield expr
