"""RNN, GRU and LSTM: every attribute of the operators, any number of steps."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from tvm import tirx

from kernels.passes import vector_math
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
from tuner.importers.onnx_relax.recurrent_kernel import PANEL, Activation, Direction, Layer, recurrence

_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_NUMBERS = {
    "affine": (1.0, 0.0), "leakyrelu": (0.01, 0.0), "thresholdedrelu": (1.0, 0.0), "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5), "elu": (1.0, 0.0),
}  # fmt: skip
"""The defaults of alpha and beta, of the activations that have them."""


def _number(value: float) -> Any:
    return tirx.const(value, "float32")


_ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x, a, b: te.max(x, _number(0)),
    "tanh": lambda x, a, b: vector_math.tanh(x),
    "sigmoid": lambda x, a, b: vector_math.sigmoid(x),
    "affine": lambda x, a, b: _number(a) * x + _number(b),
    "leakyrelu": lambda x, a, b: tirx.Select(x >= 0, x, _number(a) * x),
    "thresholdedrelu": lambda x, a, b: tirx.Select(x >= _number(a), x, _number(0)),
    "scaledtanh": lambda x, a, b: _number(a) * vector_math.tanh(_number(b) * x),
    "hardsigmoid": lambda x, a, b: te.max(te.min(_number(a) * x + _number(b), _number(1)), _number(0)),
    "elu": lambda x, a, b: tirx.Select(x >= 0, x, _number(a) * (vector_math.exp(x) - _number(1))),
    "softsign": lambda x, a, b: x / (_number(1) + te.abs(x)),
    "softplus": lambda x, a, b: (
        te.max(x, _number(0)) + vector_math.log(_number(1) + vector_math.exp(_number(0) - te.abs(x)))
    ),
}


def recurrent(kind: str, node: Node) -> tuple[Any, ...]:
    """All states (steps, directions, batch, hidden), the last ones, and of an LSTM the last cell states."""
    if node.dtype() != "float32":
        raise Unsupported(f"{kind} of {node.dtype()}")
    batch_first = bool(node.attributes.get("layout", 0))
    data = node.input(0)
    if batch_first:
        data = node.emit(relax.op.permute_dims(data, [1, 0, 2]))
    steps, batch, _ = shape_of(data)
    clip = node.attributes.get("clip")
    layer = Layer(
        kind, steps, batch, node.shape(2)[2], tuple(_directions(node, kind)), None if clip is None else float(clip),
        reset_after=bool(node.attributes.get("linear_before_reset", 0)),
        input_forget=bool(node.attributes.get("input_forget", 0)),
    )  # fmt: skip
    operands = _operands(node, layer, data, batch_first)
    made = node.te(functools.partial(recurrence, layer), *operands, name=kind.lower())
    results = [node.emit(relax.TupleGetItem(made, output)) for output in range(3 if kind == "LSTM" else 2)]
    if batch_first:
        orders = [[2, 0, 1, 3], [1, 0, 2], [1, 0, 2]]
        results = [node.emit(relax.op.permute_dims(value, order))
                   for value, order in zip(results, orders, strict=False)]  # fmt: skip
    return tuple(results)


def _directions(node: Node, kind: str) -> Iterator[Direction]:
    backward = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[
        node.text("direction", "forward")
    ]
    for activations, turned in zip(_activations(node, kind, len(backward)), backward, strict=True):
        yield Direction(activations, turned)


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


def _operands(node: Node, layer: Layer, data: Any, batch_first: bool) -> list[Any]:
    """What `recurrence` reads."""
    steps, batch, width = shape_of(data)
    count, inner, hidden = len(layer.directions), layer.inner, layer.hidden
    bias = _part(node, 3, (count, 2 * inner))
    recurrent_bias = _slice(node, bias, 1, inner, 2 * inner)
    shared = inner if layer.kind != "GRU" or not layer.reset_after else 2 * hidden  # what may be added before the loop
    mask: Array = np.arange(inner) < shared
    early = recurrent_bias if mask.all() else node.emit(relax.op.multiply(recurrent_bias, const(mask, "float32")))
    total = node.emit(relax.op.reshape(relax.op.add(_slice(node, bias, 1, 0, inner), early), (count * inner,)))
    weights = _reshaped(node, _part(node, 1, (count, inner, width)), (count * inner, width))
    product = relax.op.matmul(relax.op.reshape(data, (steps * batch, width)), _turned(node, weights))
    inputs = node.emit(relax.op.reshape(relax.op.add(node.emit(product), total), (steps, batch, count * inner)))
    lengths = node.input(4)
    if lengths is None:
        lengths = const(np.full(batch, steps), "int32")
    states = [_state(node, position, (count, batch, hidden), batch_first) for position in (5, 6)]
    operands = [inputs, lengths, states[0], *_packed(node, layer, _part(node, 2, (count, inner, hidden)))]
    if layer.kind == "GRU" and layer.reset_after:
        operands.append(_slice(node, recurrent_bias, 1, 2 * hidden, inner))
    if layer.kind == "LSTM":
        operands += [states[1], _part(node, 7, (count, 3 * hidden))]
    return operands


def _part(node: Node, position: int, shape: tuple[int, ...]) -> Any:
    """A weight; zeros where it was left out."""
    value = node.input(position)
    return const(np.zeros(shape), "float32") if value is None else value


def _state(node: Node, position: int, shape: tuple[int, int, int], batch_first: bool) -> Any:
    value = node.input(position)
    if value is None:
        return const(np.zeros(shape), "float32")
    return node.emit(relax.op.permute_dims(value, [1, 0, 2])) if batch_first else value


def _slice(node: Node, value: Any, axis: int, begin: int, end: int) -> Any:
    array = array_of(value)
    if array is not None:
        return const(array.take(range(begin, end), axis), str(value.ty.dtype))
    return node.emit(relax.op.strided_slice(value, [axis], [begin], [end]))


def _reshaped(node: Node, value: Any, shape: tuple[int, ...]) -> Any:
    array = array_of(value)
    return node.emit(relax.op.reshape(value, shape)) if array is None else const(array.reshape(shape), "float32")


def _turned(node: Node, value: Any) -> Any:
    """A matrix with rows and columns exchanged; as an operation also of a constant, which products look for."""
    return node.emit(relax.op.permute_dims(value, [1, 0]))


def _packed(node: Node, layer: Layer, weights: Any) -> Iterator[Any]:
    """Recurrent weights (directions, gates * hidden, hidden) in panels of columns, for each phase."""
    start, count = 0, len(layer.directions)
    for gates in layer.phases:
        rows, panels = gates * layer.hidden, layer.panels(gates)
        part = _slice(node, weights, 1, start, start + rows)
        start += rows
        array = array_of(part)
        if array is not None:
            wide = np.zeros((count, panels * PANEL, layer.hidden), np.float32)
            wide[:, :rows] = array
            yield const(wide.reshape(count, panels, PANEL, layer.hidden).transpose(0, 1, 3, 2), "float32")
            continue
        wide = node.emit(relax.op.nn.pad(part, [0, 0, 0, panels * PANEL - rows, 0, 0]))
        shaped = relax.op.reshape(wide, (count, panels, PANEL, layer.hidden))
        yield node.emit(relax.op.permute_dims(shaped, [0, 1, 3, 2]))


CONVERTERS: dict[tuple[str, str], Converter] = {("", kind): functools.partial(recurrent, kind) for kind in _DEFAULTS}
