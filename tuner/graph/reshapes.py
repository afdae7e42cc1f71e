"""Reshapes move towards the end of a graph, past operators that do not care, until they meet their inverse and vanish.

Frameworks flatten a batch and a sequence into rows before each matrix product and unflatten them after it. Each such
reshape keeps the operators on its two sides from being one kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call

from tuner.graph.rewriter import Rewriter, array_of, op_name, shape_of

Shape = tuple[int, ...]

_RESHAPES = ("relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten")
_ELEMENTWISE = {
    "relax.abs", "relax.add", "relax.astype", "relax.ceil", "relax.clip", "relax.cos", "relax.divide",
    "relax.equal", "relax.erf", "relax.exp", "relax.floor", "relax.greater", "relax.greater_equal", "relax.isnan",
    "relax.less", "relax.less_equal", "relax.log", "relax.logical_and", "relax.logical_not", "relax.logical_or",
    "relax.maximum", "relax.minimum", "relax.multiply", "relax.negative", "relax.nn.gelu", "relax.nn.gelu_tanh",
    "relax.nn.leakyrelu", "relax.nn.relu", "relax.nn.silu", "relax.not_equal", "relax.power", "relax.round",
    "relax.rsqrt", "relax.sigmoid", "relax.sign", "relax.sin", "relax.sqrt", "relax.square", "relax.subtract",
    "relax.tanh", "relax.where",
}  # fmt: skip
_ROW_WISE = ("relax.nn.layer_norm", "relax.nn.rms_norm", "relax.nn.softmax", "relax.nn.log_softmax")
"""Operators over the last axis; what they read besides their first operand are vectors along that axis."""
_REDUCTIONS = ("relax.mean", "relax.sum", "relax.max", "relax.min")


@dataclass(frozen=True)
class Reshaped:
    """An expression that the graph sees in another shape."""

    expr: Any
    shape: Shape


class Reshapes(Rewriter):
    """Rewrites `main` with its reshapes as late as possible. Values stay what they were, element by element."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self._permuted: dict[Any, tuple[Any, list[int]]] = {}

    def materialize(self, value: Any) -> Any:
        if isinstance(value, Reshaped):
            return _reshaped(self, value.expr, value.shape)
        return super().materialize(value)

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        name = op_name(call)
        if name in _RESHAPES:
            return self._view(args[0].expr if isinstance(args[0], Reshaped) else args[0], shape_of(call))
        if name == "relax.permute_dims":
            return self._permute(call, args[0])
        if any(isinstance(arg, Reshaped) for arg in args):
            moved = None
            if name in _ELEMENTWISE:
                moved = self._elementwise(call, args)
            elif name in _ROW_WISE:
                moved = self._row_wise(call, args)
            elif name in _REDUCTIONS:
                moved = self._reduction(call, args[0])
            if moved is not None:
                return self._view(moved, shape_of(call))
        return super().visit(var, call, args)

    def _view(self, expr: Any, shape: Shape) -> Any:
        return expr if shape_of(expr) == shape else Reshaped(expr, shape)

    def _permute(self, call: Call, value: Any) -> Any:
        """A transpose: of a transpose it is one, and where only axes of extent 1 change places it is a reshape."""
        rank = len(shape_of(call))
        axes = [int(axis) % rank for axis in call.attrs.axes] if call.attrs.axes else list(range(rank))[::-1]
        source = value
        if not isinstance(value, Reshaped) and value in self._permuted:
            source, inner = self._permuted[value]
            axes = [inner[axis] for axis in axes]
        seen = source.shape if isinstance(source, Reshaped) else shape_of(source)
        moving = [axis for axis in axes if seen[axis] > 1]
        if moving == sorted(moving):
            return self._view(source.expr if isinstance(source, Reshaped) else source, shape_of(call))
        result = self.emit(relax.op.permute_dims(self.materialize(source), axes))
        self._permuted[result] = (source, axes)
        return result

    def _elementwise(self, call: Call, args: Sequence[Any]) -> Any:
        """The call on the shape below a view of the result's shape; None where an operand does not fit that shape.

        None as well where an image would have to be reshaped: packed layouts are of four axes.
        """
        shape = shape_of(call)
        plain = [arg for arg in args if isinstance(arg, relax.Var)]
        if len(shape) == 4 and any(shape_of(arg) == shape for arg in plain):
            return None
        view = next((a for a in args if isinstance(a, Reshaped) and a.shape == shape), None)
        if view is None:
            return None
        below = shape_of(view.expr)
        operands = [self._operand(arg, shape, below) for arg in args]
        if any(operand is None for operand in operands):
            return None
        return self.emit(Call(call.op, operands, call.attrs, call.ty_args))

    def _operand(self, value: Any, shape: Shape, below: Shape) -> Any:
        """An operand that broadcasts to `shape` as one that broadcasts to `below` in the same way, or None.

        A number, as clip has them, stays.
        """
        if not isinstance(value, Reshaped) and not hasattr(value.ty, "shape"):
            return value
        seen = value.shape if isinstance(value, Reshaped) else shape_of(value)
        if seen == shape:
            return _reshaped(self, value.expr if isinstance(value, Reshaped) else value, below)
        if np.prod(seen, dtype=np.int64) == 1:
            target: Shape | None = seen if seen == (1,) else ()
        else:
            target = _broadcast_below(seen, shape, below)
        if target is None:
            return None
        return _reshaped(self, value.expr if isinstance(value, Reshaped) else value, target)

    def _row_wise(self, call: Call, args: Sequence[Any]) -> Any:
        """The call on the rows below a view that has the same rows; None where the axis is another one."""
        view = args[0]
        attributes = call.attrs
        axes = [int(a) for a in attributes.axes] if hasattr(attributes, "axes") else [int(attributes.axis)]
        if not isinstance(view, Reshaped) or [axis % len(view.shape) for axis in axes] != [len(view.shape) - 1]:
            return None
        below = shape_of(view.expr)
        if not below or below[-1] != view.shape[-1]:
            return None
        operands = [view.expr, *(self.materialize(arg) for arg in args[1:])]
        axis = len(below) - 1
        name = op_name(call)
        if name == "relax.nn.layer_norm":
            made = relax.op.nn.layer_norm(
                *operands, [axis], float(attributes.epsilon), attributes.center, attributes.scale
            )
        elif name == "relax.nn.rms_norm":
            made = relax.op.nn.rms_norm(*operands, [axis], float(attributes.epsilon))
        else:
            made = (relax.op.nn.softmax if name == "relax.nn.softmax" else relax.op.nn.log_softmax)(view.expr, axis)
        return self.emit(made)

    def _reduction(self, call: Call, view: Any) -> Any:
        """A reduction over axes that the shape below a view has as well; None where it does not."""
        if not isinstance(view, Reshaped) or call.attrs.axis is None:
            return None
        below = shape_of(view.expr)
        matching = _matching_axes(view.shape, below)
        axes = [int(axis) % len(view.shape) for axis in call.attrs.axis]
        if matching is None or any(axis not in matching for axis in axes):
            return None
        operator = getattr(relax.op, op_name(call).removeprefix("relax."))
        return self.emit(operator(view.expr, [matching[axis] for axis in axes], bool(call.attrs.keepdims)))


def _reshaped(rewriter: Rewriter, expr: Any, shape: Shape) -> Any:
    if shape_of(expr) == shape:
        return expr
    constant = array_of(expr)
    if constant is not None:
        return relax.const(constant.reshape(shape), str(expr.ty.dtype))
    return rewriter.emit(relax.op.reshape(expr, shape))


def _matching_axes(shape: Shape, below: Shape) -> Mapping[int, int] | None:
    """Which axis of `below` each axis of `shape` over 1 is; None unless the two differ in axes of extent 1 only."""
    ours, theirs = ([axis for axis, extent in enumerate(s) if extent > 1] for s in (shape, below))
    if [shape[axis] for axis in ours] != [below[axis] for axis in theirs]:
        return None
    return dict(zip(ours, theirs, strict=True))


def _broadcast_below(seen: Shape, shape: Shape, below: Shape) -> Shape | None:
    """The shape in which what broadcasts from `seen` to `shape` broadcasts to `below`; None where none is known."""
    padded = (1,) * (len(shape) - len(seen)) + seen
    matching = _matching_axes(shape, below)
    if matching is not None:
        kept = {matching[axis]: padded[axis] for axis in matching}
        return tuple(kept.get(axis, 1) for axis in range(len(below)))
    if below and padded[-1] == shape[-1] == below[-1] and all(extent == 1 for extent in padded[:-1]):
        return (below[-1],)  # a vector along rows
    return None
