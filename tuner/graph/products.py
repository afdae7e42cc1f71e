"""Matrix products: constant right operands packed, operands read in place, products of one input merged.

Reshapes, transposes and slices become views, which cost nothing until something needs their elements in order.
Element-wise operators, softmax and layer norm see through reshapes, so that bias and activation follow their product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax, te
from tvm.ir import Call
from tvm.target import Target

from kernels.dots import Dot, offered
from kernels.space import vector_lanes
from kernels.space.sketch_rules import rules_of
from tuner.graph.dot_products import constant_dot_product, dot_of_two
from tuner.graph.merging import Merged, merged_products, scaling
from tuner.graph.panels import Tiling, constant_product, product
from tuner.graph.rewriter import Rewriter, array_of, constant_of, op_name, shape_of
from tuner.graph.scores import scores
from tuner.graph.views import View, on_base, reader

_ELEMENT_WISE = {
    "relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.power", "relax.maximum",
    "relax.minimum", "relax.where", "relax.equal", "relax.less", "relax.less_equal", "relax.greater",
    "relax.greater_equal", "relax.not_equal", "relax.logical_and", "relax.logical_or", "relax.logical_not",
    "relax.isnan", "relax.nn.relu", "relax.nn.gelu", "relax.nn.gelu_tanh", "relax.nn.silu", "relax.sigmoid",
    "relax.tanh", "relax.exp", "relax.erf", "relax.sqrt", "relax.rsqrt", "relax.square", "relax.negative",
    "relax.abs", "relax.log", "relax.astype", "relax.round", "relax.clip", "relax.floor", "relax.nn.leakyrelu",
}  # fmt: skip
_RESHAPES = {"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"}

_LEAST_ROWS = 8
"""Rows of the left operand below which panels of a right operand that is no constant are not worth their copy."""


def read_in_place(
    module: tvm.IRModule, target: Target, whole_tiles: bool = False
) -> tuple[tvm.IRModule, dict[str, dict[str, Any]]]:
    """The module with its products rewritten, and the kernels that they became: name -> what it computes.

    `whole_tiles`: attention's scores have as many rows as they are computed with, and not only columns.

    Where the target has no sketch rule for panels, and without products, the module as it is.
    """
    calls = (b.value for block in module["main"].body.blocks for b in block.bindings if isinstance(b.value, Call))
    if "panels" not in rules_of(target) or not any(op_name(call) == "relax.matmul" for call in calls):
        return module, {}
    products = Products(module, vector_lanes(target), whole_tiles, offered(target))
    return products.run(), products.origins


def attention_scores(module: tvm.IRModule, target: Target) -> int:
    """How many scores one head has, in a cleaned module's largest attention; 0 without one, or where the target has no
    rule for it."""
    if "attention" not in rules_of(target):
        return 0
    return max((math.prod(shape_of(var)[-2:]) for var in scores(module["main"], _ELEMENT_WISE)), default=0)


@dataclass
class _Pending:
    """A product that is emitted when its layout is known. `order` is that of its axes once it has been.

    `rows` are those to compute, where they are given, `dot` the instruction that computes it, if any, and `cast` the
    dtype that it is cast to.
    """

    left: View
    right: View
    batch: tuple[int, ...]
    extents: tuple[int, int, int]
    rows: int | None = None
    dot: Dot | None = None
    cast: str | None = None
    emitted: Any = None
    order: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.batch, self.extents[0], self.extents[2])


@dataclass(frozen=True)
class _Padded:
    """Attention's scores, or the softmax of them, with some rows and columns more than `rows` and `columns`."""

    view: View
    rows: int
    columns: int

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of columns and rows, as they are and as they are stored."""
        return (self.columns, self.view.shape[-1]), (self.rows, self.view.shape[-2])


class Products(Rewriter):
    """Rewrites the products of `main` in float32. `origins` says what each emitted kernel computes."""

    def __init__(self, module: tvm.IRModule, lanes: int, whole_tiles: bool = False, dots: Sequence[Dot] = ()) -> None:
        super().__init__(module)
        self.lanes = lanes
        self.whole_tiles = whole_tiles
        self.dots = dots
        self.origins: dict[str, dict[str, Any]] = {}
        self._merged: Mapping[Any, Merged] = merged_products(module["main"], lanes)
        self._wide: dict[int, Any] = {}
        self._scores = scores(module["main"], _ELEMENT_WISE)
        self._masks: dict[Any, View] = {}

    def visit(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        name = op_name(call)
        result = None
        if var in self._merged:
            result = self._part(self._merged[var], args)
        elif name == "relax.matmul":
            result = self._product(var, call, args)
        elif any(isinstance(a, _Padded) for a in args):
            result = self._on_padded(name, call, args)
        elif name in _ELEMENT_WISE:
            result = self._scaled(call, args) or self._cast(call, args)
            result = result or self._element_wise(call, args, shape_of(call))
        elif name in ("relax.nn.softmax", "relax.nn.layer_norm"):
            result = self._along_rows(name, call, args)
        elif args and array_of(args[0]) is None:
            result = self._viewed(name, call, args)
        return super().visit(var, call, args) if result is None else result

    # --- views --------------------------------------------------------------------------------

    def _viewed(self, name: str, call: Call, args: Sequence[Any]) -> Any:
        """A reshape, transpose or slice as a view; None for other operators."""
        if name in _RESHAPES:
            shape = shape_of(call)
            return None if 0 in shape else self._reshaped(self._view(args[0]), shape)
        if name == "relax.permute_dims":
            rank = len(shape_of(call))
            axes = [int(a) % rank for a in call.attrs.axes] if call.attrs.axes else list(reversed(range(rank)))
            return self._view(args[0]).permuted(axes)
        if name == "relax.split":
            view, axis = self._view(args[0]), int(call.attrs.axis) % len(shape_of(call.args[0]))
            ends, parts = 0, []
            for field in call.ty.fields:
                extent = int(field.shape[axis])
                parts.append(view.sliced(axis, ends, ends + extent))
                ends += extent
            return tuple(parts)
        return None

    def _view(self, value: Any) -> View:
        return value if isinstance(value, View) else View.of(self.materialize(value), shape_of(value))

    def _reshaped(self, view: View, shape: tuple[int, ...]) -> View:
        reshaped = view.reshaped(shape)
        if reshaped is None:  # a pending product may be stored so that it can be
            view = self._settled(view)
            reshaped = view.reshaped(shape) or self._copied(view).reshaped(shape)
        assert reshaped is not None, "what is contiguous can be reshaped"
        return reshaped

    def _copied(self, view: View) -> View:
        """The same elements, contiguous."""
        return View.of(self.materialize(view), view.shape)

    def _settled(self, view: View) -> View:
        """The view on an expression. A pending product is emitted, transposed where the view is a transpose of it."""
        pending = view.base
        if not isinstance(pending, _Pending):
            return view
        natural = tuple(range(len(pending.shape)))
        if pending.emitted is None:
            pending.order = view.order() or natural
            pending.emitted = self._emit_product(pending)
            if pending.cast:
                pending.emitted = self.emit(relax.op.astype(pending.emitted, pending.cast))
        shape = [pending.shape[a] for a in pending.order]
        if view.factor == 1 and pending.order == view.order():
            return self._reshaped(View.of(pending.emitted, shape), view.shape)
        base = pending.emitted
        if pending.order != natural:
            base = self.emit(relax.op.permute_dims(base, [pending.order.index(a) for a in natural]))
        return replace(view, base=base)

    def materialize(self, value: Any) -> Any:
        if isinstance(value, _Padded):
            last = len(value.view.shape) - 1
            value = value.view.sliced(last, 0, value.columns).sliced(last - 1, 0, value.rows)
        if not isinstance(value, View):
            return super().materialize(value)
        if value.factor != 1:
            plain = self.materialize(replace(value, factor=1.0))
            return self.emit(relax.op.multiply(plain, relax.const(value.factor, "float32")))
        view = self._settled(value)
        axes = view.stored_order()
        stored = view.permuted(axes)
        if not stored.is_whole:
            return self._gathered(view)
        expr = view.base if stored.shape == view.whole else self.emit(relax.op.reshape(view.base, stored.shape))
        if axes == sorted(axes):
            return expr
        return self.emit(relax.op.permute_dims(expr, [axes.index(a) for a in range(len(axes))]))

    def _gathered(self, view: View) -> Any:
        """A copy of what a view that is not all of its base shows."""
        index = view.index()
        base = view.base
        if index is None:  # along a single axis every view is affine
            size = int(np.prod(view.whole))
            base = self.emit(relax.op.reshape(base, (size,)))
            index = View(base, (size,), view.shape, view.strides, view.offset).index()
            assert index is not None
        read = reader(index)
        return self.emit(
            self.builder.call_te(
                lambda x: te.compute(view.shape, lambda *at: read(x, at), "slice"), base, primfunc_name_hint="slice"
            )
        )

    # --- products -----------------------------------------------------------------------------

    def _product(self, var: Any, call: Call, args: Sequence[Any]) -> Any:
        """A product of float32, or one that the CPU has instructions for, as a view; None where it stays as it is."""
        dtypes = tuple(str(t.ty.dtype) for t in (*call.args, call))
        weight, narrow = array_of(args[1]), set(dtypes) != {"float32"}
        if narrow and weight is not None:
            return self._dot_product(call, args)
        dot = dot_of_two(self.dots, *dtypes) if narrow else None
        if narrow and dot is None and dtypes != ("bfloat16", "bfloat16", "float32"):
            return None
        left, right = shape_of(call.args[0]), shape_of(call.args[1])
        if 0 in (*left, *right):
            return None
        if weight is not None:
            return self._by_constant(args[0], weight, shape_of(call)) if weight.size == np.prod(right[-2:]) else None
        shape = shape_of(call)
        rows, columns = left[-2], shape[-1]
        if var in self._scores:
            columns = -(-shape[-1] // self.lanes) * self.lanes
        if min(len(left), len(right)) < 2 or left[:-2] != right[:-2] or rows < _LEAST_ROWS:
            return None
        if not self.lanes <= columns <= 2 * shape[-1]:
            return None
        batch = tuple(n for n in left[:-2] if n > 1)
        scored = args[0].view if isinstance(args[0], _Padded) else self._view(args[0])
        computed = scored.shape[-2] if isinstance(args[0], _Padded) and self.whole_tiles else None
        if var in self._scores and self.whole_tiles:
            rows = computed = Tiling.of(rows, columns, self.lanes).rows
        operands = [
            self._affine(self._reshaped(view, (*batch, *view.shape[-2:]))) for view in (scored, self._view(args[1]))
        ]
        extents = (rows, operands[0].shape[-1], columns)
        pending = _Pending(operands[0], operands[1], batch, extents, computed, dot)
        whole = View.of(pending, pending.shape)
        factor = operands[0].factor * operands[1].factor
        if factor != 1:
            product = self.materialize(whole)
            whole = View.of(self.emit(relax.op.multiply(product, relax.const(factor, "float32"))), pending.shape)
        view = self._reshaped(whole, (*shape[:-2], rows, columns))
        return view if view.shape == shape else _Padded(view, *shape[-2:])

    def _affine(self, view: View) -> View:
        """The view on an expression, copied where its indices are not affine."""
        view = self._settled(view)
        return view if view.index() is not None else self._copied(view)

    def _by_constant(self, left: Any, weight: Any, shape: tuple[int, ...]) -> Any:
        if len(shape) < 2 or weight.ndim < 2 or shape[-1] < self.lanes:
            return None
        depth, columns = weight.shape[-2:]
        rows = int(np.prod(shape[:-1]))
        data = self.materialize(self._reshaped(self._view(left), (rows, depth)))
        return View.of(self._emit_constant(data, weight.reshape(depth, columns)), (rows, columns)).reshaped(shape)

    def _dot_product(self, call: Call, args: Sequence[Any]) -> View | None:
        """A product with a constant by the CPU's instructions for its dtypes; None without them."""
        weight, shape = array_of(args[1]), shape_of(call)
        assert weight is not None, "the right operand is constant"
        made = constant_dot_product(self.dots, str(call.args[0].ty.dtype), weight, shape, str(call.ty.dtype))
        if made is None:
            return None
        rows, depth, columns = made.extents
        data = self.materialize(self._reshaped(self._view(args[0]), (rows, depth)))
        origin = {"op": "matmul", "a": [rows, depth], "b": [depth, columns], "flops": 2.0 * rows * depth * columns}
        operands = [data, *(constant_of(operand) for operand in made.operands)]
        return View.of(self._kernel(made.compute, *operands, origin=origin), (rows, columns)).reshaped(shape)

    def _emit_constant(self, data: Any, weight: Any) -> Any:
        (rows, depth), columns = shape_of(data), weight.shape[1]
        tiling = Tiling.of(rows, columns, self.lanes)
        return self._kernel(
            constant_product(rows, columns, tiling),
            data,
            constant_of(tiling.pack(weight)),
            origin={"op": "matmul", "a": [rows, depth], "b": [depth, columns]},
        )

    def _emit_product(self, pending: _Pending) -> Any:
        rows, _, columns = pending.extents
        inside = pending.left.shape[-2], pending.right.shape[-2], pending.right.shape[-1]
        indices = pending.left.index(), pending.right.index()
        assert indices[0] is not None and indices[1] is not None, "operands are affine"
        readers = reader(indices[0]), reader(indices[1])
        tiling = Tiling.of(rows, columns, self.lanes, pending.rows)
        left, dot = pending.left, pending.dot
        copy = dot is not None and not (
            str(left.base.ty.dtype) == dot.left and left.strides[-1] == 1 and left.shape[-1] % dot.steps == 0
        )
        return self._kernel(
            product(pending.batch, pending.extents, inside, readers, tiling, pending.order, dot, copy),
            pending.left.base,
            pending.right.base,
            origin={"op": "matmul", "a": [*pending.batch, rows, inside[1]], "b": [*pending.batch, *inside[1:]]},
        )

    def _kernel(self, compute: Any, *operands: Any, origin: Mapping[str, Any]) -> Any:
        call = self.builder.call_te(compute, *operands, primfunc_name_hint="matmul")
        self.origins[call.args[0].name_hint] = dict(origin)
        return self.emit(call)

    def _part(self, merged: Merged, args: Sequence[Any]) -> Any:
        """The part that one of several merged products, or the bias after it, stands for."""
        if merged.follows is not None:
            return args[merged.follows]
        key = id(merged.weight)
        if key not in self._wide:
            left = self._view(args[0])
            depth, columns = merged.weight.shape
            rows = int(np.prod(left.shape[:-1]))
            wide = self._emit_constant(self.materialize(self._reshaped(left, (rows, depth))), merged.weight)
            if merged.bias is not None:
                wide = self.emit(relax.op.add(wide, constant_of(merged.bias)))
            self._wide[key] = self._reshaped(View.of(wide, (rows, columns)), (*left.shape[:-1], columns))
        whole: View = self._wide[key]
        return whole.sliced(len(whole.shape) - 1, merged.begin, merged.end)

    # --- what follows products ----------------------------------------------------------------

    def _on_padded(self, name: str, call: Call, args: Sequence[Any]) -> Any:
        """An operator on padded scores; None where they must be cut first."""
        padded = next(a for a in args if isinstance(a, _Padded))
        (columns, wide), (rows, tall) = padded.sizes
        shape = (*shape_of(call)[:-2], tall, wide)
        if name in _RESHAPES and shape_of(call)[-2:] == (rows, columns):
            return replace(padded, view=self._reshaped(padded.view, shape))
        result: View | None = None
        if name in _ELEMENT_WISE:
            result = self._element_wise(call, [self._lengthened(a, padded) for a in args], shape)
        elif name == "relax.nn.softmax":
            view = self._settled(padded.view)
            if wide > columns:
                absent = np.where(np.arange(wide) < columns, 0, -np.inf).astype(np.float32)
                masked = self.emit(relax.op.add(view.base, constant_of(absent)))
                view = View(masked, view.whole, view.shape, view.strides)
            result = self._along_rows(name, call, [view])
        return None if result is None else replace(padded, view=result)

    def _lengthened(self, value: Any, padded: _Padded) -> Any:
        """An operand of padded scores with as many rows and columns: copies of its last ones."""
        if isinstance(value, _Padded):
            return value.view
        array = array_of(value)
        shape = value.shape if isinstance(value, View) else shape_of(value)
        more = [m - n if len(shape) >= at and shape[-at] == n else 0 for at, (n, m) in enumerate(padded.sizes, 1)][::-1]
        if not any(more):
            return value
        more = [0] * (len(shape) - 2) + more[-len(shape) :]
        if array is not None:
            return relax.const(np.pad(array, [(0, n) for n in more], "edge"), str(array.dtype))
        if value not in self._masks:
            longer = [n + m for n, m in zip(shape, more, strict=True)]
            pad = self.builder.call_te(
                lambda x: te.compute(longer, lambda *at: x[tuple(map(_kept, at, shape, more))], "pad"),
                self.materialize(value),
                primfunc_name_hint="pad",
            )
            self._masks[value] = View.of(self.emit(pad), longer)
        return self._masks[value]

    def _scaled(self, call: Call, args: Sequence[Any]) -> View | None:
        """A product with a constant number as a view; None where its operand is a tensor that lies in order."""
        at, factor = scaling(call) or (0, 0.0)
        view = args[at]
        if not factor or not isinstance(view, View) or view.is_whole or str(call.ty.dtype) != "float32":
            return None
        return replace(view, factor=view.factor * factor)

    def _cast(self, call: Call, args: Sequence[Any]) -> View | None:
        """A cast of a product that is to be emitted yet, and read by nothing else, as a part of it."""
        pending = args[0].base if isinstance(args[0], View) else None
        if op_name(call) != "relax.astype" or not isinstance(pending, _Pending) or args[0].factor != 1:
            return None
        if pending.emitted is not None or pending.cast or self.uses[call.args[0]] != 1:
            return None
        view: View = replace(args[0], base=replace(pending, cast=str(call.ty.dtype)))
        return view

    def _element_wise(self, call: Call, args: Sequence[Any], shape: tuple[int, ...]) -> View | None:
        """The operator on the base of its first view; None where an operand does not fit it."""
        view = next((a for a in args if isinstance(a, View) and a.shape == shape), None)
        if view is None:
            return None
        view = self._settled(view)
        if not view.is_whole:
            return None
        operands = [self._operand(a, view) if _is_tensor(a) else a for a in args]
        if any(o is None for o in operands):
            return None
        return View(self.emit(Call(call.op, operands, call.attrs)), view.whole, view.shape, view.strides)

    def _operand(self, value: Any, like: View) -> Any:
        """An operand of the shape of a view, or broadcast to it, as one of its base; None where there is none."""
        if isinstance(value, View):
            value = self._settled(value)
            if value.is_whole and value.shape == like.shape and value.whole == like.whole:
                return value.base
        array = array_of(value)
        shape = value.shape if isinstance(value, View) else shape_of(value)
        wanted = on_base(shape, like)
        if wanted is None:
            return None
        if array is not None:
            return relax.const(array.reshape(wanted[-1:] if set(wanted[:-1]) == {1} else wanted), str(array.dtype))
        return self.materialize(self._reshaped(self._view(value), wanted))

    def _along_rows(self, name: str, call: Call, args: Sequence[Any]) -> View | None:
        """Softmax or layer norm along the last axis, on the base of its operand where that has the same rows."""
        if not isinstance(args[0], View):
            return None
        view = self._settled(args[0])
        last = len(view.shape) - 1
        axes = [call.attrs.axis] if name == "relax.nn.softmax" else list(call.attrs.axes)
        if not view.is_whole or view.whole[-1:] != view.shape[-1:] or [int(a) % (last + 1) for a in axes] != [last]:
            return None
        if name == "relax.nn.softmax":
            result = relax.op.nn.softmax(view.base, -1)
        else:
            attrs = call.attrs  # not taken over: the base may have more axes or fewer
            scale, shift = (self.materialize(a) for a in args[1:])
            result = relax.op.nn.layer_norm(
                view.base, scale, shift, [-1], float(attrs.epsilon), attrs.center, attrs.scale
            )
        return View(self.emit(result), view.whole, view.shape, view.strides)


def _is_tensor(value: Any) -> bool:
    """Whether an argument is no plain number, e.g. the bounds of a clip."""
    return isinstance(value, (View, _Padded)) or isinstance(value.ty, relax.TensorType)


def _kept(index: Any, extent: int, more: int) -> Any:
    """An index of a tensor that is made longer by copies of its last element."""
    return te.min(index, extent - 1) if more else index
