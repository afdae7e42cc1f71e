"""Layers in float16 or bfloat16: weights converted here, activations where they are made, sums in float32.

What only layers and element-wise operators read is stored narrow: the kernel that makes it converts it, and
element-wise operators widen it as they read it. Norms, softmax and reductions compute in float32; what they read, and
what the model returns, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call

from tuner.graph.layers import is_layer, recomputed
from tuner.graph.rewriter import Array, Rewriter, array_of, op_name, variables_of
from tuner.graph.scores import users_of

_DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
"""What operands of layers may be, as numpy has it."""

_VIEWS = {"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten", "relax.permute_dims"}
"""What moves elements and computes nothing, so that it may do so in any type."""

_ELEMENT_WISE = {
    "relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.maximum", "relax.minimum",
    "relax.nn.relu", "relax.nn.leakyrelu", "relax.clip", "relax.sigmoid", "relax.tanh", "relax.erf", "relax.exp",
    "relax.nn.gelu", "relax.nn.gelu_tanh", "relax.nn.silu", "relax.negative", "relax.abs", "relax.mean",
}  # fmt: skip
"""What a conversion of its operand is fused into."""


def narrowed(module: tvm.IRModule, dtypes: Mapping[int, str]) -> tvm.IRModule:
    """A cleaned module whose layers with these numbers take operands in float16 or bfloat16; the others stay."""
    return _Narrowing(module, dtypes).run()


def narrow_constant(weight: Array, dtype: str) -> Any:
    """A layer's weight in one of these types."""
    return relax.const(weight.astype(_DTYPES[dtype]), dtype)


@dataclass(frozen=True)
class _Narrow:
    """A value that is stored in `dtype` and stands for one in float32."""

    expr: Any
    dtype: str


class _Narrowing(Rewriter):
    def __init__(self, module: tvm.IRModule, dtypes: Mapping[int, str]) -> None:
        super().__init__(module)
        main = module["main"]
        bindings = [b for block in main.body.blocks for b in block.bindings]
        found = [b.var for b in bindings if isinstance(b.value, Call) and is_layer(b.value)]
        self._layers = {var: dtypes[number] for number, var in enumerate(found) if number in dtypes}
        self._users = users_of(main)
        self._kept_whole = _read_otherwise(main)
        self._converted: dict[Any, Any] = {}

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        if op_name(call) in _VIEWS and isinstance(args[0], _Narrow):
            rest = [self.materialize(a) for a in args[1:]]
            return replace(args[0], expr=self.emit(Call(call.op, [args[0].expr, *rest], call.attrs, call.ty_args)))
        made = self._layer(var, call, args) if var in self._layers else super().visit(var, call, args)
        stored = None if isinstance(made, tuple) else self._stored_as(var)
        return made if stored is None else _Narrow(self.emit(relax.op.astype(made, stored)), stored)

    def materialize(self, value: Any) -> Any:
        """A narrow value is widened for each reader anew: the conversion is then fused into it."""
        if isinstance(value, _Narrow):
            return self.emit(relax.op.astype(value.expr, "float32"))
        return super().materialize(value)

    def _layer(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        weight, dtype = array_of(args[1]), self._layers[var]
        assert weight is not None, "a layer's weight is constant"
        return self.emit(recomputed(call, self._operand(args[0], dtype), narrow_constant(weight, dtype), "float32"))

    def _operand(self, value: Any, dtype: str) -> Any:
        """A layer's operand in `dtype`; one that several layers read is converted once."""
        if isinstance(value, _Narrow) and value.dtype == dtype:
            return value.expr
        expr = self.materialize(value)
        if (expr, dtype) not in self._converted:
            self._converted[expr, dtype] = self.emit(relax.op.astype(expr, dtype))
        return self._converted[expr, dtype]

    def _stored_as(self, var: Any) -> str | None:
        """In what a float32 value is stored that layers and element-wise operators, and at least one layer, are all
        that reads; None for others, and where its layers want several types."""
        if str(getattr(var.ty, "dtype", "")) != "float32":
            return None
        readers = list(self._readers(var))
        fused = all(
            call is not None and (user in self._layers or op_name(call) in _ELEMENT_WISE) for user, call in readers
        )
        wanted = {self._layers[user] for user, _ in readers if user in self._layers}
        return wanted.pop() if fused and len(wanted) == 1 else None

    def _readers(self, var: Any) -> Iterator[tuple[Any, Call | None]]:
        """Who reads a value, through views; (None, None) for the model's outputs and for what reads it in a tuple."""
        if var in self._kept_whole:
            yield None, None
        for user, call in self._users[var]:
            if op_name(call) in _VIEWS:
                yield from self._readers(user)
            else:
                yield user, call


def _read_otherwise(main: Any) -> set[Any]:
    """The variables that something else reads than a call of which they are an argument."""
    found = set(variables_of(main.body.body))
    for binding in (b for block in main.body.blocks for b in block.bindings):
        value = binding.value
        apart = [a for a in value.args if isinstance(a, relax.Tuple)] if isinstance(value, Call) else [value]
        found.update(var for expr in apart for var in variables_of(expr))
    return found
