"""RNN, GRU and LSTM: every attribute of the operators, any number of steps."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from tvm import tirx

from tuner.importers.onnx_relax.node import (
    Any,
    Array,
    Converter,
    Node,
    Unsupported,
    array_of,
    const,
    relax,
    shape_of,
    te,
)
from tuner.importers.onnx_relax.recurrent_kernel import PANEL, Activation, Cell, recurrence

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_NUMBERS = {
    "affine": (1.0, 0.0), "leakyrelu": (0.01, 0.0), "thresholdedrelu": (1.0, 0.0), "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5), "elu": (1.0, 0.0),
}  # fmt: skip
"""The defaults of alpha and beta, of the activations that have them."""


def _number(value: float) -> Any:
    return tirx.const(value, "float32")


def _sigmoid(x: Any) -> Any:
    return _number(1) / (_number(1) + tirx.exp(-x))


_ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x, a, b: te.max(x, _number(0)),
    "tanh": lambda x, a, b: tirx.tanh(x),
    "sigmoid": lambda x, a, b: _sigmoid(x),
    "affine": lambda x, a, b: _number(a) * x + _number(b),
    "leakyrelu": lambda x, a, b: tirx.Select(x >= 0, x, _number(a) * x),
    "thresholdedrelu": lambda x, a, b: tirx.Select(x >= _number(a), x, _number(0)),
    "scaledtanh": lambda x, a, b: _number(a) * tirx.tanh(_number(b) * x),
    "hardsigmoid": lambda x, a, b: te.max(te.min(_number(a) * x + _number(b), _number(1)), _number(0)),
    "elu": lambda x, a, b: tirx.Select(x >= 0, x, _number(a) * (tirx.exp(x) - _number(1))),
    "softsign": lambda x, a, b: x / (_number(1) + te.abs(x)),
    "softplus": lambda x, a, b: te.max(x, _number(0)) + tirx.log(_number(1) + tirx.exp(-te.abs(x))),
}


def recurrent(kind: str, node: Node) -> tuple[Any, ...]:
    """All states (steps, directions, batch, hidden), the last ones, and of an LSTM the last cell states."""
    if node.dtype() != "float32":
        raise Unsupported(f"{kind} of {node.dtype()}")
    batch_first = bool(node.attributes.get("layout", 0))
    data = node.input(0)
    if batch_first:
        data = node.emit(relax.op.permute_dims(data, [1, 0, 2]))
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[
        node.text("direction", "forward")
    ]
    activations = list(_activations(node, kind, len(directions)))
    parts = [
        _direction(node, kind, data, index, backward, activations[index], batch_first)
        for index, backward in enumerate(directions)
    ]
    all_states, *last = ([part[output] for part in parts] for output in range(len(parts[0])))
    stacked = [node.emit(relax.op.stack(all_states, 1)), *(node.emit(relax.op.stack(states, 0)) for states in last)]
    if batch_first:
        orders = [[2, 0, 1, 3], [1, 0, 2], [1, 0, 2]]
        stacked = [node.emit(relax.op.permute_dims(value, order))
                   for value, order in zip(stacked, orders, strict=False)]  # fmt: skip
    return tuple(stacked)


def _activations(node: Node, kind: str, directions: int) -> Iterator[tuple[Activation, ...]]:
    names = [name.decode() for name in node.attributes.get("activations", [])] or _DEFAULTS[kind] * directions
    alphas = list(node.attributes.get("activation_alpha", []))
    betas = list(node.attributes.get("activation_beta", []))
    made: list[Activation] = []
    for name in (name.lower() for name in names):
        if name not in _ACTIVATIONS:
            raise Unsupported(f"the activation {name!r} is unknown")
        alpha, beta = _NUMBERS.get(name, (0.0, 0.0))
        if name in _NUMBERS:
            alpha = alphas.pop(0) if alphas else alpha
        if name in ("affine", "scaledtanh", "hardsigmoid"):
            beta = betas.pop(0) if betas else beta
        made.append(functools.partial(_ACTIVATIONS[name], a=alpha, b=beta))
    count = len(_DEFAULTS[kind])
    for index in range(directions):
        yield tuple(made[index * count : (index + 1) * count])


def _direction(
    node: Node, kind: str, data: Any, index: int, backward: bool, activations: tuple[Activation, ...], batch_first: bool
) -> tuple[Any, ...]:
    steps, batch, width = shape_of(data)
    gates, hidden = _GATES[kind], node.shape(2)[2]
    clip = node.attributes.get("clip")
    cell = Cell(
        kind, steps, batch, hidden, activations, None if clip is None else float(clip), backward,
        reset_after=bool(node.attributes.get("linear_before_reset", 0)),
        input_forget=bool(node.attributes.get("input_forget", 0)),
    )  # fmt: skip
    bias = _part(node, 3, index, (2 * gates * hidden,))
    inner = gates * hidden
    recurrent_bias = _slice(node, bias, inner, 2 * inner)
    shared = inner if kind != "GRU" or not cell.reset_after else 2 * hidden  # what may be added before the loop
    total = node.emit(relax.op.add(_slice(node, bias, 0, inner), _cut(node, recurrent_bias, shared)))
    weights = relax.op.permute_dims(_part(node, 1, index, (inner, width)), [1, 0])
    product = node.emit(relax.op.matmul(relax.op.reshape(data, (steps * batch, width)), weights))
    inputs = node.emit(relax.op.reshape(relax.op.add(product, total), (steps, batch, inner)))
    lengths = node.input(4)
    if lengths is None:
        lengths = const(np.full(batch, steps), "int32")
    states = [_state(node, position, index, (batch, hidden), batch_first) for position in (5, 6)]
    operands = [inputs, lengths, states[0], *_packed(node, cell, _part(node, 2, index, (inner, hidden)))]
    if kind == "GRU" and cell.reset_after:
        operands.append(_slice(node, recurrent_bias, 2 * hidden, inner))
    if kind == "LSTM":
        operands += [states[1], _part(node, 7, index, (3 * hidden,))]
    made = node.te(functools.partial(recurrence, cell), *operands, name=kind.lower())
    return tuple(node.emit(relax.TupleGetItem(made, output)) for output in range(3 if kind == "LSTM" else 2))


def _part(node: Node, position: int, direction: int, shape: tuple[int, ...]) -> Any:
    """One direction of a weight; zeros where it was left out."""
    value = node.input(position)
    if value is None:
        return const(np.zeros(shape), "float32")
    array = array_of(value)
    if array is not None:
        return const(array[direction], "float32")
    return node.emit(relax.op.reshape(_slice(node, value, direction, direction + 1), shape))


def _state(node: Node, position: int, direction: int, shape: tuple[int, int], batch_first: bool) -> Any:
    value = node.input(position)
    if value is None:
        return const(np.zeros(shape), "float32")
    axis = 1 if batch_first else 0
    taken = relax.op.strided_slice(value, [axis], [direction], [direction + 1])
    return node.emit(relax.op.reshape(taken, shape))


def _slice(node: Node, value: Any, begin: int, end: int) -> Any:
    array = array_of(value)
    if array is not None:
        return const(array[begin:end], str(value.ty.dtype))
    return node.emit(relax.op.strided_slice(value, [0], [begin], [end]))


def _cut(node: Node, value: Any, size: int) -> Any:
    """A vector with zeros after its first elements."""
    mask: Array = np.arange(shape_of(value)[0]) < size
    return value if mask.all() else node.emit(relax.op.multiply(value, const(mask, "float32")))


def _packed(node: Node, cell: Cell, weights: Any) -> Iterator[Any]:
    """Recurrent weights (gates * hidden, hidden) in panels of columns, for each phase."""
    start = 0
    for gates in cell.phases:
        rows, panels = gates * cell.hidden, cell.panels(gates)
        part = _slice(node, weights, start, start + rows)
        start += rows
        array = array_of(part)
        if array is not None:
            wide = np.zeros((panels * PANEL, cell.hidden), np.float32)
            wide[:rows] = array
            yield const(wide.reshape(panels, PANEL, cell.hidden).transpose(0, 2, 1), "float32")
            continue
        wide = node.emit(relax.op.nn.pad(part, [0, panels * PANEL - rows, 0, 0]))
        shaped = relax.op.reshape(wide, (panels, PANEL, cell.hidden))
        yield node.emit(relax.op.permute_dims(shaped, [0, 2, 1]))


CONVERTERS: dict[tuple[str, str], Converter] = {("", kind): functools.partial(recurrent, kind) for kind in _GATES}
