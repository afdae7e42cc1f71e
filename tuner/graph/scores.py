"""Which products are attention's scores: a softmax of them, scaled and masked, is the left operand of another product.

Their rows can have any length, 197 for an image. Stored longer by a few columns that the softmax makes zeros, they are
whole vectors in all three kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from tvm import relax
from tvm.ir import Call

from tuner.graph.rewriter import array_of, op_name, shape_of

Users = Mapping[Any, list[tuple[Any, Call]]]


def users_of(main: Any) -> Users:
    """The calls that read each variable of a function, with the variables that they are bound to."""
    users: dict[Any, list[tuple[Any, Call]]] = defaultdict(list)
    for block in main.body.blocks:
        for binding in block.bindings:
            for argument in binding.value.args if isinstance(binding.value, Call) else ():
                if isinstance(argument, relax.Var):
                    users[argument].append((binding.var, binding.value))
    return users


def scores(main: Any, element_wise: Collection[str]) -> set[Any]:
    """The variables of products of which nothing but such a softmax is used."""
    users = users_of(main)
    calls = ((b.var, b.value) for block in main.body.blocks for b in block.bindings if isinstance(b.value, Call))
    return {
        var for var, call in calls if op_name(call) == "relax.matmul" and _ends_in_product(var, users, element_wise)
    }


def _ends_in_product(var: Any, users: Users, element_wise: Collection[str]) -> bool:
    columns = shape_of(var)[-1]
    normalized = False
    while len(users[var]) == 1:
        reader, call = users[var][0]
        name = op_name(call)
        if name == "relax.matmul":
            return normalized and call.args[0].same_as(var) and array_of(call.args[1]) is None
        if name == "relax.nn.softmax" and not normalized:
            normalized = int(call.attrs.axis) in (-1, len(shape_of(var)) - 1)
            if not normalized:
                return False
        elif name in element_wise:
            if (normalized and name != "relax.astype") or shape_of(call) != shape_of(var):
                return False
        elif name != "relax.reshape" or shape_of(call)[-1] != columns:
            return False
        var = reader
    return False
