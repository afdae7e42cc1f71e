"""The recurrent part of RNN, GRU and LSTM over all steps of one direction, as one kernel with a loop over time.

What the inputs contribute to the gates of all steps is one matrix product before it. Per step the kernel multiplies the
state with the recurrent weights, which are packed so that a panel of columns is accumulated in registers.
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

Activation = Callable[[Any], Any]


@dataclass(frozen=True)
class Cell:
    """One direction of a layer. `kind` is RNN, GRU or LSTM; `activations` are those of the ONNX attribute, in order."""

    kind: str
    steps: int
    batch: int
    hidden: int
    activations: tuple[Activation, ...]
    clip: float | None = None
    backward: bool = False
    reset_after: bool = False
    input_forget: bool = False

    @property
    def gates(self) -> int:
        return {"RNN": 1, "GRU": 3, "LSTM": 4}[self.kind]

    @property
    def phases(self) -> tuple[int, ...]:
        """How many gates are computed before the next ones may be: a GRU resets its state before the last."""
        return (2, 1) if self.kind == "GRU" and not self.reset_after else (self.gates,)

    def panels(self, gates: int) -> int:
        return -(-gates * self.hidden // PANEL)

    def clipped(self, value: Any) -> Any:
        return value if self.clip is None else te.max(te.min(value, T.float32(self.clip)), T.float32(-self.clip))


def recurrence(cell: Cell, *operands: te.Tensor) -> Sequence[te.Tensor]:
    """All states, the last one, and an LSTM's last cell state.

    `operands`: what the inputs contribute (steps, batch, gates * hidden), lengths (batch), a first state
    (batch, hidden), for each phase its packed weights (panels, hidden, PANEL); then of a GRU that resets after the
    product its bias (hidden), and of an LSTM its first cell state (batch, hidden) and its peepholes (3, hidden).
    """
    state = (cell.batch, cell.hidden)
    shapes = [(cell.steps, *state), state, *([state] if cell.kind == "LSTM" else [])]
    return te.extern(  # type: ignore[no-any-return]
        shapes,
        list(operands),
        lambda ins, outs: _program(cell, ins, outs),
        dtype=["float32"] * len(shapes),
        out_buffers=[tirx.decl_buffer(shape, "float32", layout=None) for shape in shapes],
        name="recurrence",
    )


def _program(cell: Cell, ins: Sequence[Any], outs: Sequence[Any]) -> Any:
    step = _Step(cell, [T.buffer_proxy(buffer) for buffer in ins], [T.buffer_proxy(buffer) for buffer in outs])
    with IRBuilder() as builder:
        with T.seq_scope():
            step.allocate()
            with T.serial(0, cell.batch * cell.hidden) as i:
                step.state[i] = step.first[i]
                if cell.kind == "LSTM":
                    step.memory[i] = step.extra[0][i]
            with T.serial(0, cell.steps) as t:
                step.write(t)
        return builder.get()


class _Step:
    """What a time step does, written into the IRBuilder's current scope."""

    def __init__(self, cell: Cell, ins: Sequence[Any], outs: Sequence[Any]) -> None:
        self.cell = cell
        self.inputs, self.lengths, self.first = ins[:3]
        self.weights = ins[3 : 3 + len(cell.phases)]
        self.extra = ins[3 + len(cell.phases) :]
        self.all, self.state = outs[:2]
        self.memory: Any = outs[2] if cell.kind == "LSTM" else None

    def allocate(self) -> None:
        cell = self.cell
        self.width = cell.panels(cell.gates) * PANEL + PANEL
        self.sums = T.buffer_proxy(T.alloc_buffer((cell.batch * self.width,), "float32"))
        self.reset = T.buffer_proxy(T.alloc_buffer((cell.batch * cell.hidden,), "float32"))
        self.panel = T.buffer_proxy(T.alloc_buffer((PANEL,), "float32", scope="local"))

    def write(self, t: Any) -> None:
        cell = self.cell
        start = 0
        for phase, gates in enumerate(cell.phases):
            self._product(self.weights[phase], self.state if phase == 0 else self.reset, start, gates)
            start += gates
            if len(cell.phases) == 2 and phase == 0:
                self._reset(t)
        with T.serial(0, cell.batch) as b, T.serial(0, cell.hidden) as j, T.If(t < self.lengths[b]):
            with T.Then():
                self._update(t, b, j)
                self.all[self._at(self._time(t, b), b, j)] = self.state[b * cell.hidden + j]
            with T.Else():
                self.all[self._at(t, b, j)] = T.float32(0)

    def _product(self, weights: Any, state: Any, first_gate: int, gates: int) -> None:
        cell = self.cell
        with T.serial(0, cell.panels(gates)) as p, T.serial(0, cell.batch) as b:
            with T.vectorized(0, PANEL) as v:
                self.panel[v] = T.float32(0)
            with T.serial(0, cell.hidden) as k, T.vectorized(0, PANEL) as v:
                self.panel[v] = self.panel[v] + state[b * cell.hidden + k] * weights[(p * cell.hidden + k) * PANEL + v]
            with T.vectorized(0, PANEL) as v:
                self.sums[b * self.width + first_gate * cell.hidden + p * PANEL + v] = self.panel[v]

    def _at(self, t: Any, b: Any, j: Any) -> Any:
        return (t * self.cell.batch + b) * self.cell.hidden + j

    def _time(self, t: Any, b: Any) -> Any:
        """Which input a step reads: of a backward direction the last that belongs to the sequence comes first."""
        return self.lengths[b] - 1 - t if self.cell.backward else t

    def _input(self, t: Any, b: Any, j: Any, gate: int) -> Any:
        time = te.max(self._time(t, b), 0)
        return self.inputs[((time * self.cell.batch + b) * self.cell.gates + gate) * self.cell.hidden + j]

    def _gate(self, t: Any, b: Any, j: Any, gate: int) -> Any:
        return self._input(t, b, j, gate) + self._sum(b, j, gate)

    def _sum(self, b: Any, j: Any, gate: int) -> Any:
        return self.sums[b * self.width + gate * self.cell.hidden + j]

    def _reset(self, t: Any) -> None:
        cell = self.cell
        with T.serial(0, cell.batch) as b, T.serial(0, cell.hidden) as j:
            at = b * cell.hidden + j
            self.reset[at] = cell.activations[0](cell.clipped(self._gate(t, b, j, 1))) * self.state[at]

    def _update(self, t: Any, b: Any, j: Any) -> None:
        at = b * self.cell.hidden + j
        {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.cell.kind](t, b, j, at)

    def _rnn(self, t: Any, b: Any, j: Any, at: Any) -> None:
        self.state[at] = self.cell.activations[0](self.cell.clipped(self._gate(t, b, j, 0)))

    def _gru(self, t: Any, b: Any, j: Any, at: Any) -> None:
        cell = self.cell
        f, g = cell.activations
        update = T.bind(f(cell.clipped(self._gate(t, b, j, 0))))
        hidden = self._gate(t, b, j, 2)
        if cell.reset_after:
            reset = f(cell.clipped(self._gate(t, b, j, 1)))
            hidden = self._input(t, b, j, 2) + reset * (self._sum(b, j, 2) + self.extra[0][j])
        self.state[at] = (T.float32(1) - update) * g(cell.clipped(hidden)) + update * self.state[at]

    def _lstm(self, t: Any, b: Any, j: Any, at: Any) -> None:
        cell, peepholes = self.cell, self.extra[1]
        f, g, h = cell.activations
        gate_i, gate_o, gate_f, gate_c = (self._gate(t, b, j, gate) for gate in range(4))
        old = T.bind(self.memory[at])
        opened = T.bind(f(cell.clipped(gate_i + peepholes[j] * old)))
        if cell.input_forget:
            kept: Any = T.float32(1) - opened
        else:
            kept = f(cell.clipped(gate_f + peepholes[2 * cell.hidden + j] * old))
        self.memory[at] = kept * old + opened * g(cell.clipped(gate_c))
        given = f(cell.clipped(gate_o + peepholes[cell.hidden + j] * self.memory[at]))
        self.state[at] = given * h(self.memory[at])
