"""Concatenations that copy nothing: their operands are written right where the whole is to be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call

from kernels.tensors import TensorSpec
from tuner.graph.rewriter import op_name, shape_of

ALIGNMENT = 64
"""Bytes; a cache line, and a vector register. Kernels expect their tensors to begin at a multiple of it."""


class ConcatenationOrigins:
    """Legalizes `relax.concat` as TVM does and fills `axes`: kernel name -> the axis that it concatenates along."""

    def __init__(self) -> None:
        self.axes: dict[str, int] = {}

    def rules(self) -> dict[str, Any]:
        """For `relax.transform.LegalizeOps`."""
        return {"relax.concat": self._concat}

    def _concat(self, builder: Any, call: Call) -> Any:
        legalized = call.op.get_attr("FLegalize")(builder, call)
        if op_name(legalized) == "relax.call_tir":
            axis = 0 if call.attrs.axis is None else int(call.attrs.axis)
            self.axes[str(legalized.args[0].name_hint)] = axis % len(shape_of(call))
        return legalized


def joins(main: relax.Function, axes: Mapping[str, int]) -> dict[Any, tuple[tuple[Any, int], ...]]:
    """The concatenations of `main` that need no copy: by variable, its operands with their offsets in bytes.

    `axes` says which kernels concatenate, and along which axis. All axes before it must be of length one, so that each
    operand is one piece of the whole; each operand must be what a kernel wrote, no output of the model, and in no other
    place already.
    """
    bindings = [b for block in main.body.blocks for b in block.bindings]
    written = {b.var for b in bindings if _kernel(b.value) and hasattr(b.var.ty, "shape")}
    returned = set(_variables(main.body.body))
    for binding in reversed(bindings):  # through names and reshapes to what is returned
        if binding.var in returned and not _kernel(binding.value):
            returned.update(_variables(binding.value))
    found: dict[Any, tuple[tuple[Any, int], ...]] = {}
    taken: set[Any] = set()
    for binding in reversed(bindings):  # the largest of nested ones first
        axis = axes.get(_kernel(binding.value))
        if axis is None or binding.var in returned or math.prod(shape_of(binding.var)[:axis]) != 1:
            continue
        operands = list(binding.value.args[1].fields)
        repeated = max(Counter(operands).values()) > 1
        if repeated or any(o not in written or o in returned or o in taken for o in operands):
            continue
        sizes = [TensorSpec(shape_of(o), str(o.ty.dtype)).nbytes for o in operands]
        offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        if any(offset % ALIGNMENT for offset in offsets):
            continue
        found[binding.var] = tuple(zip(operands, offsets, strict=True))
        taken.update(operands)
    return found


def _kernel(expr: Any) -> str:
    """The name of the kernel that an expression calls; "" where it calls none."""
    return str(expr.args[0].name_hint) if isinstance(expr, Call) and op_name(expr) == "relax.call_tir" else ""


def _variables(expr: Any) -> list[Any]:
    if isinstance(expr, relax.Tuple):
        return [v for field in expr.fields for v in _variables(field)]
    if isinstance(expr, Call):
        return [v for arg in expr.args for v in _variables(arg)]
    if isinstance(expr, tvm.ir.TupleGetItem):
        return _variables(expr.tuple_value)
    return [expr] if isinstance(expr, relax.Var) else []
