"""Calls inside of expressions."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from kernels.lowering import nodes


def calls(tree: Any) -> list[Any]:
    """The calls in an expression or a statement."""
    return nodes(tree, tvm.ir.Call)


def only_values(tree: Any) -> bool:
    """Whether every call computes a value of its arguments and does nothing else."""
    return all(_is_value(call) for call in calls(tree))


def named(tree: Any, name: str) -> list[Any]:
    """The calls of one operator, e.g. `tirx.if_then_else`."""
    return [call for call in calls(tree) if str(getattr(call.op, "name", "")) == name]


def _is_value(call: Any) -> bool:
    effect = call.op.get_attr("TCallEffectKind") if isinstance(call.op, tvm.ir.Op) else None
    return effect is not None and int(effect) <= int(tirx.CallEffectKind.Pure.value)
