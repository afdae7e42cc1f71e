"""The recurrent part of RNN, GRU and LSTM over all steps, as one kernel with a loop over time for each direction.

What the inputs contribute to the gates of all steps is one matrix product before it. Per step the kernel multiplies the
state with the recurrent weights, which are packed so that a panel of columns is accumulated in registers, and computes
the gates in vectors. Both directions of a layer are computed at once, each by a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

PANEL = 64
"""Columns that are accumulated together: four registers of AVX-512."""

LANES = 16
"""Elements of the state that are computed together: a register of AVX-512."""

Activation = Callable[[Any], Any]


@dataclass(frozen=True)
class Direction:
    """`activations` are those of the ONNX attribute, in order."""

    activations: tuple[Activation, ...]
    backward: bool


@dataclass(frozen=True)
class Layer:
    """One or two directions of a layer. `kind` is RNN, GRU or LSTM."""

    kind: str
    steps: int
    batch: int
    hidden: int
    directions: tuple[Direction, ...]
    clip: float | None = None
    reset_after: bool = False
    input_forget: bool = False

    @property
    def gates(self) -> int:
        return {"RNN": 1, "GRU": 3, "LSTM": 4}[self.kind]

    @property
    def inner(self) -> int:
        return self.gates * self.hidden

    @property
    def phases(self) -> tuple[int, ...]:
        """How many gates are computed before the next ones may be: a GRU resets its state before the last."""
        return (2, 1) if self.kind == "GRU" and not self.reset_after else (self.gates,)

    def panels(self, gates: int) -> int:
        return -(-gates * self.hidden // PANEL)

    def clipped(self, value: Any) -> Any:
        return value if self.clip is None else te.max(te.min(value, T.float32(self.clip)), T.float32(-self.clip))


def recurrence(layer: Layer, *operands: te.Tensor) -> Sequence[te.Tensor]:
    """All states (steps, directions, batch, hidden), the last ones (directions, batch, hidden), and an LSTM's last cell
    states.

    `operands`: what the inputs contribute (steps, batch, directions * gates * hidden), lengths (batch), first states
    (directions, batch, hidden), for each phase its packed weights (directions, panels, hidden, PANEL); then of a GRU
    that resets after the product its bias (directions, hidden), and of an LSTM its first cell states (directions,
    batch, hidden) and its peepholes (directions, 3 * hidden).
    """
    state = (len(layer.directions), layer.batch, layer.hidden)
    shapes = [(layer.steps, *state), state, *([state] if layer.kind == "LSTM" else [])]
    return te.extern(  # type: ignore[no-any-return]
        shapes,
        list(operands),
        lambda ins, outs: _program(layer, ins, outs),
        dtype=["float32"] * len(shapes),
        out_buffers=[tirx.decl_buffer(shape, "float32", layout=None) for shape in shapes],
        name="recurrence",
    )


def _program(layer: Layer, ins: Sequence[Any], outs: Sequence[Any]) -> Any:
    buffers = [T.buffer_proxy(buffer) for buffer in ins], [T.buffer_proxy(buffer) for buffer in outs]
    with IRBuilder() as builder:
        if len(layer.directions) == 1:
            with T.seq_scope():
                _Steps(layer, 0, *buffers).write()
        else:
            with T.parallel(0, 2) as thread, T.If(thread == 0):
                with T.Then():
                    _Steps(layer, 0, *buffers).write()
                with T.Else():
                    _Steps(layer, 1, *buffers).write()
        return builder.get()


class _Steps:
    """All steps of one direction, written into the IRBuilder's current scope."""

    def __init__(self, layer: Layer, direction: int, ins: Sequence[Any], outs: Sequence[Any]) -> None:
        self.layer, self.number = layer, direction
        self.activations, self.backward = layer.directions[direction].activations, layer.directions[direction].backward
        self.inputs, self.lengths, self.first = ins[:3]
        self.weights = ins[3 : 3 + len(layer.phases)]
        self.extra = ins[3 + len(layer.phases) :]
        self.all, self.state = outs[:2]
        self.memory: Any = outs[2] if layer.kind == "LSTM" else None

    def write(self) -> None:
        layer = self.layer
        self.width = layer.panels(layer.gates) * PANEL + PANEL
        self.sums = T.buffer_proxy(T.alloc_buffer((layer.batch * self.width,), "float32"))
        self.reset = T.buffer_proxy(T.alloc_buffer((layer.batch * layer.hidden,), "float32"))
        self.panel = T.buffer_proxy(T.alloc_buffer((PANEL,), "float32", scope="local"))
        with T.serial(0, layer.batch) as b:
            self._in_vectors(lambda j: self._begin(self._at(b, j)))
        with T.serial(0, layer.steps) as t:
            self._step(t)

    def _begin(self, at: Any) -> None:
        self.state[at] = self.first[at]
        if self.memory is not None:
            self.memory[at] = self.extra[0][at]

    def _step(self, t: Any) -> None:
        layer, start = self.layer, 0
        for phase, gates in enumerate(layer.phases):
            self._product(phase, start, gates)
            start += gates
            if len(layer.phases) == 2 and phase == 0:
                with T.serial(0, layer.batch) as b:
                    self._in_vectors(lambda j: self._store_reset(t, b, j))
        with T.serial(0, layer.batch) as b, T.If(t < self.lengths[b]):
            with T.Then():
                self._in_vectors(lambda j: self._updated(t, b, j))
            with T.Else():
                self._in_vectors(lambda j: self._pad(t, b, j))

    def _in_vectors(self, body: Callable[[Any], None]) -> None:
        """`body(j)` for each element j of a state, so many at once as a register holds, and then the rest."""
        whole, rest = divmod(self.layer.hidden, LANES)
        if whole:
            with T.serial(0, whole) as block, T.vectorized(0, LANES) as v:
                body(block * LANES + v)
        if rest:
            with T.vectorized(0, rest) as v:
                body(whole * LANES + v)

    def _product(self, phase: int, first_gate: int, gates: int) -> None:
        layer, weights = self.layer, self.weights[phase]
        panels, hidden = layer.panels(gates), layer.hidden
        with T.serial(0, panels) as p, T.serial(0, layer.batch) as b:
            with T.vectorized(0, PANEL) as v:
                self.panel[v] = T.float32(0)
            with T.serial(0, hidden) as k, T.vectorized(0, PANEL) as v:
                state = self.state[self._at(b, k)] if phase == 0 else self.reset[b * hidden + k]
                weight = weights[((self.number * panels + p) * hidden + k) * PANEL + v]
                self.panel[v] = self.panel[v] + state * weight
            with T.vectorized(0, PANEL) as v:
                self.sums[b * self.width + first_gate * hidden + p * PANEL + v] = self.panel[v]

    def _at(self, b: Any, j: Any) -> Any:
        return (self.number * self.layer.batch + b) * self.layer.hidden + j

    def _at_time(self, t: Any, b: Any, j: Any) -> Any:
        layer = self.layer
        return t * (len(layer.directions) * layer.batch * layer.hidden) + self._at(b, j)

    def _time(self, t: Any, b: Any) -> Any:
        """Which input a step reads: of a backward direction the last that belongs to the sequence comes first."""
        return self.lengths[b] - 1 - t if self.backward else t

    def _input(self, t: Any, b: Any, j: Any, gate: int) -> Any:
        layer = self.layer
        row = te.max(self._time(t, b), 0) * layer.batch + b
        return self.inputs[(row * len(layer.directions) + self.number) * layer.inner + gate * layer.hidden + j]

    def _gate(self, t: Any, b: Any, j: Any, gate: int) -> Any:
        return self._input(t, b, j, gate) + self._sum(b, j, gate)

    def _sum(self, b: Any, j: Any, gate: int) -> Any:
        return self.sums[b * self.width + gate * self.layer.hidden + j]

    def _store_reset(self, t: Any, b: Any, j: Any) -> None:
        reset = self.activations[0](self.layer.clipped(self._gate(t, b, j, 1)))
        self.reset[b * self.layer.hidden + j] = reset * self.state[self._at(b, j)]

    def _updated(self, t: Any, b: Any, j: Any) -> None:
        at = self._at(b, j)
        {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.layer.kind](t, b, j, at)
        self.all[self._at_time(self._time(t, b), b, j)] = self.state[at]

    def _pad(self, t: Any, b: Any, j: Any) -> None:
        self.all[self._at_time(t, b, j)] = T.float32(0)

    def _rnn(self, t: Any, b: Any, j: Any, at: Any) -> None:
        self.state[at] = self.activations[0](self.layer.clipped(self._gate(t, b, j, 0)))

    def _gru(self, t: Any, b: Any, j: Any, at: Any) -> None:
        layer = self.layer
        f, g = self.activations
        hidden = self._gate(t, b, j, 2)
        if layer.reset_after:
            reset = f(layer.clipped(self._gate(t, b, j, 1)))
            bias = self.extra[0][self.number * layer.hidden + j]
            hidden = self._input(t, b, j, 2) + reset * (self._sum(b, j, 2) + bias)
        new = g(layer.clipped(hidden))
        self.state[at] = _let(
            f(layer.clipped(self._gate(t, b, j, 0))),
            lambda update: (T.float32(1) - update) * new + update * self.state[at],
        )

    def _lstm(self, t: Any, b: Any, j: Any, at: Any) -> None:
        layer, clipped = self.layer, self.layer.clipped
        f, g, h = self.activations
        gate_i, gate_o, gate_f, gate_c = (self._gate(t, b, j, gate) for gate in range(4))
        of_i, of_o, of_f = (self.extra[1][(3 * self.number + gate) * layer.hidden + j] for gate in range(3))
        old = self.memory[at]

        def remembered(opened: Any) -> Any:
            kept = T.float32(1) - opened if layer.input_forget else f(clipped(gate_f + of_f * old))
            return kept * old + opened * g(clipped(gate_c))

        self.memory[at] = _let(f(clipped(gate_i + of_i * old)), remembered)
        self.state[at] = f(clipped(gate_o + of_o * self.memory[at])) * h(self.memory[at])


def _let(value: Any, body: Callable[[Any], Any]) -> Any:
    """`body(value)`, with a value that is computed once. A statement that binds it would not be vectorized."""
    name = tirx.Var("value", "float32")
    return tirx.Let(name, value, body(name))
