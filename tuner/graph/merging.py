"""Which products of one input become one product, with their weights side by side: attention's projections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call

from tuner.graph.rewriter import Array, array_of, op_name, shape_of
from tuner.graph.scores import Users, users_of

_VIEWS = {"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.permute_dims"}


def scaling(call: Call) -> tuple[int, float] | None:
    """Which argument a call multiplies with a constant number, and the number; None where it does something else."""
    if op_name(call) not in ("relax.multiply", "relax.divide"):
        return None
    for at in (0, 1) if op_name(call) == "relax.multiply" else (0,):
        number = array_of(call.args[1 - at])
        if number is not None and number.size == 1 and number.item() and shape_of(call) == shape_of(call.args[at]):
            return at, float(number.item() if op_name(call) == "relax.multiply" else 1 / number.item())
    return None


@dataclass(frozen=True, eq=False)
class Merged:
    """Columns `begin` to `end` of a product with the joint weight [K, N] and the joint bias [N].

    `follows`: this is the bias after such a product, and stands for what that argument stands for.
    """

    weight: Array
    bias: Array | None
    begin: int
    end: int
    follows: int | None = None


def merged_products(main: Any, lanes: int) -> Mapping[Any, Merged]:
    """By variable: the products that are merged, and the biases that follow them.

    They have the same left operand and constant weights, and what reads them are other products, through reshapes,
    transposes and scalings: those read parts of a wider tensor where they lie. Anything else would need copies.
    """
    users = users_of(main)
    groups: dict[Any, list[tuple[Any, Call]]] = defaultdict(list)
    calls = [(b.var, b.value) for block in main.body.blocks for b in block.bindings if isinstance(b.value, Call)]
    for var, call in calls:
        if _is_projection(call, lanes):
            groups[call.args[0]].append((var, call))
    merged: dict[Any, Merged] = {}
    for group in groups.values():
        biases = [_bias(var, call, users) for var, call in group]
        ends = [bias[0] if bias else var for (var, _), bias in zip(group, biases, strict=True)]
        if len(group) > 1 and len({b is None for b in biases}) == 1 and all(_in_products(e, users) for e in ends):
            merged.update(_merge(group, biases))
    return merged


def _is_projection(call: Call, lanes: int) -> bool:
    """Whether it is a float32 product of a variable with a constant matrix."""
    if op_name(call) != "relax.matmul" or str(call.ty.dtype) != "float32" or not isinstance(call.args[0], relax.Var):
        return False
    weight = array_of(call.args[1])
    if weight is None or weight.dtype != np.float32:
        return False
    return weight.ndim == 2 and weight.shape[1] % lanes == 0 and len(shape_of(call)) > 1


def _bias(var: Any, product: Call, users: Users) -> tuple[Any, int, Array] | None:
    """The sum of a product and a constant vector: its variable, which argument the product is, and the vector."""
    if len(users[var]) != 1:
        return None
    total, call = users[var][0]
    columns = shape_of(product)[-1]
    if op_name(call) != "relax.add" or shape_of(call) != shape_of(product):
        return None
    at = 0 if call.args[0].same_as(var) else 1
    vector = array_of(call.args[1 - at])
    if vector is None or vector.shape[-1:] != (columns,) or vector.size != columns:
        return None
    return total, at, vector.reshape(-1)


def _in_products(var: Any, users: Users) -> bool:
    """Whether a value is read by products of two variables alone, through views."""
    return bool(users[var]) and all(
        _in_products(user, users) if op_name(call) in _VIEWS or scaling(call) else _is_product(call)
        for user, call in users[var]
    )


def _is_product(call: Call) -> bool:
    return op_name(call) == "relax.matmul" and all(array_of(a) is None for a in call.args)


def _merge(group: list[tuple[Any, Call]], biases: list[tuple[Any, int, Array] | None]) -> Iterator[tuple[Any, Merged]]:
    weights = [np.asarray(array_of(call.args[1])) for _, call in group]
    weight = np.concatenate(weights, axis=1)
    vectors = [bias[2] for bias in biases if bias]
    joint = np.concatenate(vectors) if vectors else None
    begin = 0
    for (var, _), own, bias in zip(group, weights, biases, strict=True):
        end = begin + own.shape[1]
        yield var, Merged(weight, joint, begin, end)
        if bias:
            yield bias[0], Merged(weight, joint, begin, end, follows=bias[1])
        begin = end
