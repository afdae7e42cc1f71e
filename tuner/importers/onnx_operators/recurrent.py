"""Recurrent layers, with the activations and the order of the reset gate that torch has; and Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tuner.importers.onnx_operators.base import Forms, Literals, require

_LSTM_GATES, _GRU_GATES = (0, 2, 3, 1), (1, 0, 2)
"""Where each of torch's gates (input, forget, cell, output; reset, update, new) stands among those of ONNX."""


def lstm(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: None = None, h: Tensor | None = None,
    c: Tensor | None = None, peepholes: None = None, *, hidden_size: int, direction: str = "forward", layout: int = 0,
    activations: Sequence[str] = (), activation_alpha: Sequence[float] = (), activation_beta: Sequence[float] = (),
    input_forget: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    _require_plain(direction, layout, lengths, activations, ("Sigmoid", "Tanh", "Tanh"))
    require(peepholes is None and not input_forget, "an LSTM with peepholes or coupled gates")
    parameters = _parameters(w, r, b, hidden_size, _LSTM_GATES)
    states = [_state(state, x, w, hidden_size) for state in (h, c)]
    two = direction == "bidirectional"
    y, h_last, c_last = torch.lstm(x, states, parameters, b is not None, 1, 0.0, False, two, False)
    return _sequence(y, len(w)), h_last, c_last


def gru(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: None = None, h: Tensor | None = None, *,
    hidden_size: int, direction: str = "forward", layout: int = 0, activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (), activation_beta: Sequence[float] = (), linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    _require_plain(direction, layout, lengths, activations, ("Sigmoid", "Tanh"))
    require(linear_before_reset == 1, "a GRU that resets before its product")
    parameters = _parameters(w, r, b, hidden_size, _GRU_GATES)
    two = direction == "bidirectional"
    y, last = torch.gru(x, _state(h, x, w, hidden_size), parameters, b is not None, 1, 0.0, False, two, False)
    return _sequence(y, len(w)), last


def rnn(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: None = None, h: Tensor | None = None, *,
    hidden_size: int, direction: str = "forward", layout: int = 0, activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (), activation_beta: Sequence[float] = (),
) -> tuple[Tensor, ...]:  # fmt: skip
    relu = set(activations) == {"Relu"}
    _require_plain(direction, layout, lengths, () if relu else activations, ("Tanh",))
    parameters = _parameters(w, r, b, hidden_size, (0,))
    run = torch.rnn_relu if relu else torch.rnn_tanh
    two = direction == "bidirectional"
    y, last = run(x, _state(h, x, w, hidden_size), parameters, b is not None, 1, 0.0, False, two, False)
    return _sequence(y, len(w)), last


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


def _require_plain(direction: str, layout: int, lengths: Any, activations: Sequence[str], usual: Sequence[str]) -> None:
    require(direction in ("forward", "bidirectional"), f"a recurrent layer with direction {direction}")
    require(layout == 0 and lengths is None, "a recurrent layer with layout 1 or with lengths of sequences")
    times = len(activations) // len(usual) if activations else 0
    require(tuple(activations) == tuple(usual) * times, f"the activations {', '.join(activations)}")


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


OPERATORS: Forms = {"DFT": dft, "GRU": gru, "LSTM": lstm, "RNN": rnn}
LITERAL_INPUTS: Literals = {"DFT": (1, 2)}
