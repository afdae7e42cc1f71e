"""RNN, GRU and LSTM against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, check

RNG = np.random.default_rng(0)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, WIDTH, HIDDEN = 7, 3, 5, 9


def values(*shape: int) -> Value:
    return (RNG.standard_normal(shape) * 0.5).astype(np.float32)


def run(kind: str, directions: int = 1, extra: int = 0, lengths: bool = False, **attributes: Any) -> None:
    """`extra`: how many of initial state, initial cell state and peepholes are given."""
    inner = GATES[kind] * HIDDEN
    state = values(directions, BATCH, HIDDEN)
    inputs: list[Value | None] = [
        values(STEPS, BATCH, WIDTH), values(directions, inner, WIDTH), values(directions, inner, HIDDEN),
        values(directions, 2 * inner), np.array([7, 1, 4], np.int32) if lengths else None,
    ]  # fmt: skip
    inputs += [state, state[::-1].copy(), values(directions, 3 * HIDDEN)][:extra]
    outputs = 3 if kind == "LSTM" else 2
    check(kind, inputs, (1, 2, 3), outputs, hidden_size=HIDDEN, **attributes)


@pytest.mark.parametrize("kind", GATES)
def test_plain(kind: str) -> None:
    run(kind)


@pytest.mark.parametrize("kind", GATES)
def test_both_directions_initial_states_and_lengths(kind: str) -> None:
    run(kind, 2, extra=2 if kind == "LSTM" else 1, lengths=True, direction="bidirectional")


def test_reverse_with_lengths() -> None:
    run("GRU", lengths=True, direction="reverse", linear_before_reset=1)


def test_reset_after_the_product() -> None:
    run("GRU", 2, extra=1, direction="bidirectional", linear_before_reset=1)


def test_peepholes_and_clip() -> None:
    run("LSTM", extra=3, clip=0.4)


@pytest.mark.parametrize("name", ["Relu", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus", "ScaledTanh"])
def test_activations(name: str) -> None:
    numbers: dict[str, dict[str, Any]] = {
        "LeakyRelu": {"activation_alpha": [0.2]},
        "Elu": {"activation_alpha": [0.7]},
        "HardSigmoid": {"activation_alpha": [0.3], "activation_beta": [0.4]},
        "ScaledTanh": {"activation_alpha": [0.8], "activation_beta": [0.6]},
    }
    run("RNN", activations=[name], **numbers.get(name, {}))


def test_weights_that_the_model_computes() -> None:
    check("LSTM", [values(4, 1, 3), values(1, 8, 3), values(1, 8, 2)], (), 3, hidden_size=2)


def test_more_columns_than_a_panel() -> None:
    check("GRU", [values(5, 1, 6), values(1, 150, 6), values(1, 150, 50)], (1, 2), 2, hidden_size=50)
