"""How much error is to be expected of a right implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kernels.winograd import TILES, matrices, transformed_weight
from tuner.baselines.exact import NOISY_RUNS, InFloat64
from tuner.measure.accuracy import Yardstick

Array = NDArray[Any]
UNIT = float(np.finfo(np.float32).eps) / 2


def convolved(layer: torch.nn.Module, data: Array, noise: float = 0.0, seed: int = 0) -> Array:
    with torch.no_grad(), InFloat64(noise, seed):
        return np.asarray(layer.double()(torch.from_numpy(data).double()).numpy())


def by_winograd(data: Array, weight: Array, m: int) -> Array:
    """A 3x3 convolution of [1, c, n, n] with padding 1 by F(m x m, 3 x 3) in float32."""
    a_t, _, b_t = (np.array(matrix, np.float32) for matrix in matrices(m))
    [image], size = data, data.shape[-1]
    tiles = -(-size // m)
    padded = np.pad(image, ((0, 0), *[(1, tiles * m + 1 - size)] * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (m + 2, m + 2), axis=(1, 2))[:, ::m, ::m]
    products = np.einsum("rsoc,cyxrs->oyxrs", transformed_weight(weight, m), b_t @ windows @ b_t.T, dtype=np.float32)
    outputs = (a_t @ products @ a_t.T).transpose(0, 1, 3, 2, 4).reshape(1, -1, tiles * m, tiles * m)
    return np.ascontiguousarray(outputs[..., :size, :size])


@pytest.mark.parametrize("m", TILES)
@pytest.mark.parametrize("channels", [32, 128])
def test_a_layer_by_winograd_is_right_and_one_that_is_off_is_not(channels: int, m: int) -> None:
    torch.manual_seed(m)
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    data = np.random.default_rng(m).standard_normal((1, channels, 20, 20)).astype(np.float32)
    weight = layer.weight.detach().numpy()
    got = by_winograd(data, weight, m)
    samples = [[convolved(layer, data, UNIT, seed)] for seed in range(1, NOISY_RUNS + 1)]
    yardstick = Yardstick([convolved(layer, data)], samples, UNIT)
    assert yardstick.check([got]).ok
    got[0, 3, 5, 7] += 1e-3
    assert "1 of" in yardstick.check([got]).reason


def test_other_convolutions_err_by_a_rounding() -> None:
    data = np.random.default_rng(0).standard_normal((1, 16, 20, 20)).astype(np.float32)
    layers = [
        torch.nn.Conv2d(16, 16, 3),
        torch.nn.Conv2d(16, 16, 3, stride=2),
        torch.nn.Conv2d(16, 16, 3, groups=2),
        torch.nn.Conv2d(16, 16, 1),
    ]
    errors = [np.abs(convolved(layer, data, UNIT, 1) - convolved(layer, data)).mean() for layer in layers]
    assert all(errors[0] > 8 * error for error in errors[1:])


def by_tanh(x: Array) -> Array:
    """The sigmoid as ONNX Runtime and others compute it: right to a rounding of one."""
    half = np.float32(0.5)
    return np.asarray(half + half * np.tanh(half * x), np.float32)


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gated"])
def test_a_saturated_gate_is_right_to_a_rounding_of_one(name: str) -> None:
    """The hidden state of an LSTM whose output gate is shut: 3e-8 or 7e-8, both are right."""
    torch.manual_seed(0)
    x = torch.linspace(-25, 5, 256)
    y = torch.randn(256)
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "sigmoid": torch.sigmoid,
        "silu": torch.nn.functional.silu,
        "gated": lambda v: v.sigmoid() * y.tanh(),
    }

    def run(noise: float, seed: int) -> Array:
        with torch.no_grad(), InFloat64(noise, seed):
            return np.asarray(functions[name](x.double()).numpy())

    gate = by_tanh(x.numpy())
    got: Array = {"sigmoid": gate, "silu": x.numpy() * gate, "gated": gate * np.tanh(y.numpy())}[name]
    yardstick = Yardstick([run(0.0, 0)], [[run(UNIT, seed)] for seed in range(1, NOISY_RUNS + 1)], UNIT)
    assert yardstick.check([got]).ok
    wrong = got.copy()
    wrong[60] += 5e-6 * np.abs(x[60].item())
    assert "1 of" in yardstick.check([wrong]).reason
    assert not yardstick.check([np.where(np.abs(got) < 1e-3, np.float32(0), got)]).ok


def test_gates_that_are_computed_in_place_get_it_too() -> None:
    x = torch.full((64,), -17.0)

    def run(noise: float) -> Array:
        with torch.no_grad(), InFloat64(noise, 1):
            return np.asarray((x.double() + 0.0).sigmoid_().numpy())

    assert 1e-9 < np.abs(run(UNIT) - run(0.0)).max() < 4 * UNIT


def sampled(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, unit: float) -> Yardstick:
    def run(noise: float, seed: int) -> Array:
        with torch.no_grad(), InFloat64(noise, seed):
            return np.asarray(function(x).numpy())

    return Yardstick([run(0.0, 0)], [[run(unit, seed)] for seed in range(1, NOISY_RUNS + 1)], unit)


def test_the_logarithm_of_a_certain_class_is_right_to_a_rounding_of_one() -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) * 12
    yardstick = sampled(lambda v: torch.log_softmax(v, -1), x, UNIT)
    got = torch.log_softmax(x, -1).numpy()
    assert yardstick.check([got]).ok
    got[got > -1e-3] = 0.0  # what is below a rounding of one
    assert yardstick.check([got]).ok
    assert not yardstick.check([got * np.float32(1.001)]).ok


def test_all_of_a_sigmoid_in_its_tail_is_no_free_pass() -> None:
    x = torch.linspace(-15, -13, 256)
    yardstick = sampled(torch.sigmoid, x, UNIT)
    peer = by_tanh(x.numpy())
    assert yardstick.check([peer]).ok
    for wrong in (np.zeros_like(peer), peer / 2, peer[::-1].copy()):
        assert not yardstick.with_peer([peer]).check([wrong]).ok


def test_a_peaked_softmax_in_half_precision_has_numbers_that_halves_cannot_hold() -> None:
    unit = float(np.finfo(np.float16).eps) / 2
    x = (torch.randn(4, 64, generator=torch.Generator().manual_seed(1)) * 9).half()
    yardstick = sampled(lambda v: torch.softmax(v, -1), x, unit)
    got = torch.softmax(x.float(), -1).half().numpy()
    assert yardstick.check([got]).ok
    got[0] = 0
    assert not yardstick.check([got]).ok


def test_steps_of_a_quantizer_inside_do_not_excuse_wrong_outputs() -> None:
    """The errors to be expected are whole steps, a hundredth of the largest output, of few elements."""
    generator = torch.Generator().manual_seed(2)
    x, weight = torch.randn(64, 64, generator=generator), torch.randn(64, 64, generator=generator)

    def quantized(v: torch.Tensor) -> torch.Tensor:
        return torch.round((v @ weight.to(v.dtype)) / 0.3) * 0.3 @ weight.to(v.dtype).T

    yardstick = sampled(quantized, x, UNIT)
    got = quantized(x).numpy()
    assert yardstick.check([got]).ok
    for wrong in (np.zeros_like(got), got / 2, got[::-1].copy(), got * np.float32(1.2)):
        assert not yardstick.check([wrong]).ok
