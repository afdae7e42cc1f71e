"""A model whose memory is planned, as a program of TVM's virtual machine: one storage, every tensor at its offset."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.ir import Call

from tuner.graph.lower import Lowered
from tuner.graph.plan import Place, Plan, Tensor, plan

ALIGNMENT = 256
"""Bytes: what CUDA aligns its own allocations to."""


def with_arena(lowered: Lowered) -> relax.Function:
    """`main` of a lowered model with the places of its tensors in it: it allocates one storage, calls the kernels, and
    gives the outputs, each a tensor of its own.

    It takes the place of what TVM's StaticPlanBlockMemory plans. Concatenations that need no copy have none.
    Raises `plan.Unplannable`.
    """
    return _Writer(lowered, plan(lowered, ALIGNMENT)).written()


class _Writer:
    """Writes `main` anew from a plan."""

    def __init__(self, lowered: Lowered, planned: Plan) -> None:
        self._module = lowered.module
        self._old = lowered.module["main"]
        self._plan = planned
        self._constants = dict(planned.constants)
        self._params = [relax.Var(param.name, param.ty) for param in self._old.params]
        self._block = relax.BlockBuilder()
        self._storage: Any = None
        self._made: dict[tuple[Place, tuple[int, ...], str], Any] = {}
        self._written: dict[Place, Any] = {}  # outputs, in the shape that their kernel writes

    def written(self) -> relax.Function:
        old = self._old
        attributes = {**(dict(old.attrs.items()) if old.attrs else {}), "relax.force_pure": True}
        with self._block.function("main", self._params, attributes):
            if self._plan.arena_bytes:
                size = relax.ShapeExpr([self._plan.arena_bytes])
                storage = self._block.emit(relax.op.memory.alloc_storage(size, 0, "global", "uint8"))
                self._storage = self._block.emit(relax.op.memory.alloc_tensor(storage, 0, size, "uint8"))
            for call in self._plan.calls:
                arguments = [self._value(tensor) for tensor in call.arguments]
                kernel = self._module.get_global_var(call.kernel)
                self._block.emit(Call(kernel, arguments, ty_args=[relax.TupleType([])]))
                self._forget_views()
            outputs = [self._value(tensor) for tensor in self._plan.outputs]
            alone = not hasattr(old.body.body.ty, "fields")
            self._block.emit_func_output(outputs[0] if alone else self._block.emit(relax.Tuple(outputs)))
        return self._block.finalize()["main"]

    def _value(self, tensor: Tensor) -> Any:
        """The expression of a tensor, made at its first use."""
        key = (tensor.place, tensor.shape, tensor.dtype)
        if key not in self._made:
            self._made[key] = self._new(tensor)
        return self._made[key]

    def _forget_views(self) -> None:
        """Make views anew for the next call. One that is made behind a call is what a CUDA graph that ends there gives:
        TVM's machine cannot run a graph that gives nothing."""
        self._made = {key: value for key, value in self._made.items() if key[0].kind != "arena"}

    def _new(self, tensor: Tensor) -> Any:
        place, shape = tensor.place, relax.ShapeExpr(tensor.shape)
        if place.kind == "constant":
            array = np.ascontiguousarray(self._constants[place.at]).reshape(tensor.shape)
            return relax.const(array, tensor.dtype)
        if place.kind == "arena":
            at = tirx.IntImm("int64", place.at)
            view = self._block.emit(relax.op.memory.view(self._storage, shape, tensor.dtype, at))
            return self._block.emit(relax.op.memory.ensure_zero_offset(view)) if place.at else view
        if place.kind == "input":
            return self._shaped(self._params[place.at], tensor)
        if place not in self._written:
            made = relax.op.builtin.alloc_tensor(shape, tensor.dtype, 0)
            self._written[place] = self._block.emit(made)
        return self._shaped(self._written[place], tensor)

    def _shaped(self, value: Any, tensor: Tensor) -> Any:
        if tuple(int(n) for n in value.ty.shape) == tensor.shape:
            return value
        return self._block.emit(relax.op.reshape(value, tensor.shape))
