"""Operators that do nothing, or the same as a cheaper one: found one call at a time while a graph is cleaned."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call

from tuner.graph.rewriter import Array, array_of, op_name, producer, shape_of

_NEUTRAL = {"relax.add": 0, "relax.subtract": 0, "relax.multiply": 1, "relax.divide": 1}
"""Operators and the second operand that leaves the first as it is (of a zero, at most the sign is lost)."""
_COMMUTATIVE = ("relax.add", "relax.multiply")
_BROADCASTING = (*_NEUTRAL, "relax.maximum", "relax.minimum", "relax.power", "relax.where")
_MASK_TESTS: Mapping[str, Callable[[Call, Array], Array]] = {
    "relax.equal": lambda _, x: np.equal(x, -np.inf),
    "relax.isnan": lambda _, x: np.isnan(x),
    "relax.logical_not": lambda _, x: np.logical_not(x),
    "relax.astype": lambda call, x: x.astype(str(call.ty.dtype)),
    "relax.max": lambda _, x: x.max(axis=-1, keepdims=True),
}
"""What exporters build the test "is all of this row masked" from."""
_SCORES = np.array([[0.5, -1.0], [-np.inf, 0.5]])
"""Rows of scores of which something is left, and their softmax below."""
_PROBABILITIES = np.array([[0.8, 0.2], [0.0, 1.0]])


def simplified(builder: relax.BlockBuilder, call: Call, args: Sequence[Any]) -> Any:
    """An expression that equals a call of the given arguments and costs less; None where there is none.

    x + 0, x * 1 and the like are x; a power of 2 or 3 is a product; a constant whose elements are all equal becomes a
    scalar; the zeros that exporters put in place of rows that are masked as a whole go where no row is.
    """
    name = op_name(call)
    if name in _NEUTRAL:
        for here, there in ((0, 1), (1, 0)) if name in _COMMUTATIVE else ((0, 1),):
            if _uniform(array_of(args[there])) == _NEUTRAL[name] and shape_of(call.args[here]) == shape_of(call):
                return args[here]
    if name == "relax.power":
        exponent = _uniform(array_of(args[1]))
        if exponent in (2, 3) and shape_of(call.args[0]) == shape_of(call):
            factors = [args[0]] * int(exponent)
            return functools.reduce(lambda a, b: builder.emit(relax.op.multiply(a, b)), factors)
    if name == "relax.where":
        kept = _without_mask_test(builder, args)
        if kept is not None and shape_of(kept) == shape_of(call):
            return kept
    if name in _BROADCASTING:
        return _with_scalars(builder, call, args)
    return None


def _with_scalars(builder: relax.BlockBuilder, call: Call, args: Sequence[Any]) -> Any:
    """The call with scalars for constants whose elements are all equal, where its shape stays; else None.

    Steps of quantization stay tensors of one element: layers that differ in them alone are then one kernel.
    """
    if _is_of_steps(builder, call, args):
        return None
    scalars = []
    for arg in args:
        constant = array_of(arg)
        value = _uniform(constant) if constant is not None and constant.ndim else None
        scalars.append(arg if value is None else relax.const(value, str(arg.ty.dtype)))
    if all(new is old for new, old in zip(scalars, args, strict=True)):
        return None
    shapes = [() if new is not old else shape_of(old) for new, old in zip(scalars, args, strict=True)]
    if np.broadcast_shapes(*shapes) != shape_of(call):
        return None
    return builder.emit(Call(call.op, scalars, call.attrs, call.ty_args))


def _is_of_steps(builder: relax.BlockBuilder, call: Call, args: Sequence[Any]) -> bool:
    """Whether a call divides by a tensor of one element, or scales or shifts what was just converted or rounded by
    one."""
    constants = [array_of(arg) for arg in args]
    if not any(constant is not None and constant.shape == (1,) for constant in constants):
        return False
    made = [producer(builder, arg) for arg in args]
    near = {op_name(maker) for maker in made if maker is not None}
    return op_name(call) == "relax.divide" or bool(near & {"relax.astype", "relax.round"})


def _uniform(constant: Array | None) -> Any:
    """The value that all elements of a constant have; None where they differ.

    None for a vector as well: that is a parameter (a bias, a scale) whose elements are equal only until a model is
    trained, and a model with random weights should cost what the trained one costs.
    """
    if constant is None or constant.size == 0 or constant.size == max(constant.shape, default=0) > 1:
        return None
    if not np.all(constant == constant.flat[0]):
        return None
    return constant.flat[0]


def _without_mask_test(builder: relax.BlockBuilder, args: Sequence[Any]) -> Any:
    """s of `where(test, 0, s)`, s a softmax, where the test asks for rows without a finite score and there can be none.

    The scores have to be a matrix product, scaled, plus a constant mask that leaves something of each row: they are
    minus infinity, or not numbers, only where the product overflows.
    """
    condition, zero, kept = args
    softmax = producer(builder, kept)
    if softmax is None or op_name(softmax) != "relax.nn.softmax" or not _is_zero(builder, zero):
        return None
    scores = softmax.args[0]
    tests: list[Call] = []
    tested = condition
    while not any(tested.same_as(read) for read in (scores, kept)):
        call = producer(builder, tested)
        if call is None or not _is_mask_test(call):
            return None
        tests.append(call)
        tested = call.args[0]
    said = _SCORES if tested.same_as(scores) else _PROBABILITIES
    for call in reversed(tests):
        said = _MASK_TESTS[op_name(call)](call, said)
    return kept if not said.any() and _has_finite_rows(builder, scores) else None


def _is_mask_test(call: Call) -> bool:
    if op_name(call) == "relax.equal":
        return bool(_uniform(array_of(call.args[1])) == -np.inf)
    if op_name(call) == "relax.max":
        rank = len(shape_of(call.args[0]))
        return call.attrs.axis is not None and [int(axis) % rank for axis in call.attrs.axis] == [rank - 1]
    return op_name(call) in _MASK_TESTS


def _has_finite_rows(builder: relax.BlockBuilder, scores: Any) -> bool:
    """Whether expressions are products, scaled by positive constants, plus at most one mask that takes no whole row.

    A row is the last axis.
    """
    call, masked = producer(builder, scores), False
    while call is not None and op_name(call) != "relax.matmul":
        values = [array_of(arg) for arg in call.args]
        constant = next((value for value in values if value is not None), None)
        if op_name(call) == "relax.reshape" and shape_of(call.args[0])[-1:] == shape_of(call)[-1:]:
            inner = call.args[0]
        elif constant is None:
            return False
        elif op_name(call) == "relax.add":
            if not np.isfinite(constant).all():
                if masked or not _leaves_rows(constant, shape_of(call)[-1]):
                    return False
                masked = True
            inner = call.args[0] if values[0] is None else call.args[1]
        elif op_name(call) == "relax.multiply" or (op_name(call) == "relax.divide" and values[0] is None):
            if not (np.isfinite(constant) & (constant > 0)).all():
                return False
            inner = call.args[0] if values[0] is None else call.args[1]
        else:
            return False
        call = producer(builder, inner)
    return call is not None


def _leaves_rows(mask: Array, length: int) -> bool:
    """Whether a mask of finite numbers and minus infinity has a finite number in each row of a length."""
    if mask.shape[-1:] != (length,) or not (mask < np.inf).all():
        return False
    return bool(np.isfinite(mask).any(axis=-1).all())


def _is_zero(builder: relax.BlockBuilder, value: Any) -> bool:
    call = producer(builder, value)
    if call is not None and op_name(call) == "relax.full_like":
        value = call.args[1]
    return bool(_uniform(array_of(value)) == 0)
