"""Recurrent layers and Fourier transforms. Forms of recurrent layers that torch has not are loops over time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.importers.onnx_operators.base import Forms, Literals, require

_LSTM_GATES, _GRU_GATES = (0, 2, 3, 1), (1, 0, 2)
"""Where each of torch's gates (input, forget, cell, output; reset, update, new) stands among those of ONNX."""

_USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}

_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "elu": lambda x, alpha, beta: torch.nn.functional.elu(x, alpha),
    "hardsigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "leakyrelu": lambda x, alpha, beta: torch.nn.functional.leaky_relu(x, alpha),
    "relu": lambda x, alpha, beta: torch.relu(x),
    "scaledtanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "sigmoid": lambda x, alpha, beta: torch.sigmoid(x),
    "softplus": lambda x, alpha, beta: torch.nn.functional.softplus(x),
    "softsign": lambda x, alpha, beta: torch.nn.functional.softsign(x),
    "tanh": lambda x, alpha, beta: torch.tanh(x),
    "thresholdedrelu": lambda x, alpha, beta: torch.where(x >= alpha, x, torch.zeros_like(x)),
}
_ALPHA = {"affine": 1.0, "elu": 1.0, "hardsigmoid": 0.2, "leakyrelu": 0.01, "scaledtanh": 1.0, "thresholdedrelu": 1.0}
_BETA = {"affine": 0.0, "hardsigmoid": 0.5, "scaledtanh": 1.0}
"""The defaults of the activations that have such a number."""


@dataclass(frozen=True)
class _Layer:
    """A recurrent layer: `kind` is RNN, GRU or LSTM, the rest are ONNX's attributes."""

    kind: str
    hidden_size: int
    direction: str
    layout: int
    activations: Sequence[str]
    activation_alpha: Sequence[float]
    activation_beta: Sequence[float]
    clip: float | None
    input_forget: int
    linear_before_reset: int

    def is_torchs(self, lengths: Tensor | None, peepholes: Tensor | None) -> bool:
        """Whether torch has an operator for it."""
        usual = _USUAL[self.kind]
        names = tuple(self.activations[: len(usual)]) or usual
        same = tuple(self.activations) in ((), names, names * 2)
        known = names == usual or (self.kind == "RNN" and names == ("Relu",))
        plain = not self.layout and not self.input_forget and self.clip is None and lengths is None
        resets = self.kind != "GRU" or self.linear_before_reset == 1
        return plain and resets and same and known and peepholes is None and self.direction != "reverse"


def recurrent(
    kind: str, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None,
    h: Tensor | None = None, c: Tensor | None = None, peepholes: Tensor | None = None, *, hidden_size: int,
    direction: str = "forward", layout: int = 0, activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (), activation_beta: Sequence[float] = (), clip: float | None = None,
    input_forget: int = 0, linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """All states (steps, directions, batch, hidden), the last ones, and of an LSTM the last cell states."""
    layer = _Layer(
        kind, hidden_size, direction, layout, activations, activation_alpha, activation_beta, clip, input_forget,
        linear_before_reset,
    )  # fmt: skip
    if layer.is_torchs(lengths, peepholes):
        return _by_torch(layer, x, w, r, b, h, c)
    return _looped(layer, x, w, r, b, lengths, (h, c), peepholes)


def _by_torch(
    layer: _Layer, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, h: Tensor | None, c: Tensor | None
) -> tuple[Tensor, ...]:
    gates = {"RNN": (0,), "GRU": _GRU_GATES, "LSTM": _LSTM_GATES}[layer.kind]
    parameters = _parameters(w, r, b, layer.hidden_size, gates)
    options = (parameters, b is not None, 1, 0.0, False, layer.direction == "bidirectional", False)
    first = _state(h, x, w, layer.hidden_size)
    if layer.kind == "LSTM":
        y, *last = torch.lstm(x, [first, _state(c, x, w, layer.hidden_size)], *options)
    elif layer.kind == "GRU":
        y, *last = torch.gru(x, first, *options)
    else:
        y, *last = (torch.rnn_relu if "Relu" in layer.activations else torch.rnn_tanh)(x, first, *options)
    return _sequence(y, len(w)), *last


def _looped(
    layer: _Layer, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None,
    first: Sequence[Tensor | None], peepholes: Tensor | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Every form of the standard, a step at a time."""
    if layer.layout:
        x = x.transpose(0, 1)
        first = [None if state is None else state.transpose(0, 1) for state in first]
    steps = torch.arange(len(x))[:, None]
    lengths = torch.full((x.shape[1],), len(x)) if lengths is None else lengths.to(torch.int64)
    turned = torch.where(steps < lengths, lengths - 1 - steps, steps)[..., None]  # the order of a backward direction
    every, last = [], []
    for number in range(len(w)):
        backward = layer.direction == "reverse" or number == 1
        states = [_state(state, x, w, layer.hidden_size)[number] for state in first]
        data = x.gather(0, turned.expand_as(x)) if backward else x
        cell = _Cell(layer, number, w, r, b, peepholes)
        y, ends = cell.over(data, lengths, states)
        every.append(y.gather(0, turned.expand_as(y)) if backward else y)
        last.append(ends)
    results = [torch.stack(every, 1), *(torch.stack(states) for states in zip(*last, strict=True))]
    results = results[: 3 if layer.kind == "LSTM" else 2]
    if layer.layout:
        results = [results[0].permute(2, 0, 1, 3), *(states.transpose(0, 1) for states in results[1:])]
    return tuple(results)


class _Cell:
    """One direction of a layer."""

    def __init__(
        self, layer: _Layer, number: int, w: Tensor, r: Tensor, b: Tensor | None, peepholes: Tensor | None
    ) -> None:
        self.layer, hidden = layer, layer.hidden_size
        self.w, self.r = w[number], r[number]
        bias = w.new_zeros(2 * len(self.w)) if b is None else b[number]
        self.w_bias, self.r_bias = torch.split(bias, len(self.w))
        self.peepholes = torch.split(w.new_zeros(3 * hidden) if peepholes is None else peepholes[number], hidden)
        self.activations = _activations(layer)[number * len(_USUAL[layer.kind]) :]

    def over(self, data: Tensor, lengths: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """All states (steps, batch, hidden), with zeros behind the end of a sequence, and the last ones."""
        step = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.layer.kind]
        every = []
        for t, row in enumerate(data):
            alive = (t < lengths)[:, None]
            made = step(row @ self.w.T + self.w_bias, *states)
            states = [torch.where(alive, new, old) for new, old in zip(made, states, strict=True)]
            every.append(torch.where(alive, states[0], torch.zeros_like(states[0])))
        return torch.stack(every), states

    def _of(self, number: int, x: Tensor) -> Tensor:
        clip = self.layer.clip
        return self.activations[number](x if clip is None else x.clamp(-clip, clip))

    def _rnn(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self._of(0, x + h @ self.r.T + self.r_bias), c

    def _gru(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.layer.hidden_size
        x_z, x_r, x_h = torch.split(x, hidden, -1)
        r_z, r_r, r_h = torch.split(self.r, hidden)
        b_z, b_r, b_h = torch.split(self.r_bias, hidden)
        update, reset = self._of(0, x_z + h @ r_z.T + b_z), self._of(0, x_r + h @ r_r.T + b_r)
        if self.layer.linear_before_reset:
            new = self._of(1, x_h + reset * (h @ r_h.T + b_h))
        else:
            new = self._of(1, x_h + (reset * h) @ r_h.T + b_h)
        return (1 - update) * new + update * h, c

    def _lstm(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gate_i, gate_o, gate_f, gate_c = torch.split(x + h @ self.r.T + self.r_bias, self.layer.hidden_size, -1)
        of_i, of_o, of_f = self.peepholes
        opened = self._of(0, gate_i + of_i * c)
        kept = 1 - opened if self.layer.input_forget else self._of(0, gate_f + of_f * c)
        memory = kept * c + opened * self._of(1, gate_c)
        opened = self._of(0, gate_o + of_o * memory)
        return opened * self.activations[2](memory), memory  # not clipped, as ONNX Runtime has it


def _activations(layer: _Layer) -> list[Callable[[Tensor], Tensor]]:
    names = [name.lower() for name in layer.activations] or [name.lower() for name in _USUAL[layer.kind]] * 2
    alphas, betas = list(layer.activation_alpha), list(layer.activation_beta)
    made: list[Callable[[Tensor], Tensor]] = []
    for name in names:
        require(name in _ACTIVATIONS, f"the activation {name!r}")
        alpha = alphas.pop(0) if name in _ALPHA and alphas else _ALPHA.get(name, 0.0)
        beta = betas.pop(0) if name in _BETA and betas else _BETA.get(name, 0.0)
        made.append(functools.partial(_ACTIVATIONS[name], alpha=alpha, beta=beta))
    return made


def dft(
    x: Tensor, length: int | None = None, given_axis: int | None = None, *, axis: int | None = None, inverse: int = 0,
    onesided: int = 0, opset: int,
) -> Tensor:  # fmt: skip
    """Along one axis of real numbers (a last extent of 1) or complex ones (of 2); the result is complex, or real where
    the inverse of one side is."""
    default = 1 if opset < 20 else -2
    along = next((a for a in (given_axis, axis) if a is not None), default)
    along += x.dim() if along < 0 else 0
    require(not (inverse and onesided), "the inverse of a one-sided Fourier transform")
    values = x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if inverse:
        return torch.view_as_real(torch.fft.ifft(values, n=length, dim=along))
    full = torch.fft.fft(values, n=length, dim=along)
    return torch.view_as_real(full.narrow(along, 0, full.shape[along] // 2 + 1) if onesided else full)


def _parameters(w: Tensor, r: Tensor, b: Tensor | None, hidden: int, gates: Sequence[int]) -> list[Tensor]:
    """For each direction the weights of inputs and states, and their biases, with torch's order of gates."""
    parameters = []
    for direction in range(len(w)):
        stacked = [w[direction], r[direction]]
        if b is not None:
            stacked += torch.split(b[direction], len(gates) * hidden)
        for values in stacked:
            parts = torch.split(values, hidden)
            parameters.append(torch.cat([parts[gate] for gate in gates]))
    return parameters


def _state(state: Tensor | None, x: Tensor, w: Tensor, hidden: int) -> Tensor:
    return x.new_zeros(len(w), x.shape[1], hidden) if state is None else state


def _sequence(y: Tensor, directions: int) -> Tensor:
    """Directions as an axis of their own, after that of time."""
    return y.reshape(*y.shape[:-1], directions, -1).transpose(1, 2)


def _named(kind: str) -> Callable[..., Any]:
    """`recurrent` of one kind, as a function with the name that a graph of torch wants."""

    def run(*operands: Tensor | None, **attributes: Any) -> tuple[Tensor, ...]:
        return recurrent(kind, *operands, **attributes)  # type: ignore[arg-type]

    run.__name__ = kind.lower()
    run.__signature__ = inspect.signature(functools.partial(recurrent, kind))  # type: ignore[attr-defined]
    return run


OPERATORS: Forms = {"DFT": dft, **{kind: _named(kind) for kind in _USUAL}}
LITERAL_INPUTS: Literals = {"DFT": (1, 2)}
