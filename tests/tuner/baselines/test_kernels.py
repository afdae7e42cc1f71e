"""PyTorch on single kernels: the right operator, the right shapes, timed by the runner that is given."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tuner.baselines.kernels import OperatorCall, operand_shapes
from tuner.process.pinning import thread_env
from tuner.process.worker import Child
from tuner.protocols import SCREEN

CONV: dict[str, Any] = {
    "op": "conv2d", "data": [1, 4, 9, 9], "weight": [6, 2, 3, 3], "strides": [2, 1], "padding": [1, 0, 1, 0],
    "dilation": [1, 2], "groups": 2, "epilogue": [],
}  # fmt: skip
MATMUL: dict[str, Any] = {"op": "matmul", "a": [2, 5, 7], "b": [7, 3], "epilogue": []}


def conv_reference(origin: dict[str, Any], data: Any, weight: Any) -> Any:
    """A convolution by its definition, in float64."""
    top, left, bottom, right = origin["padding"]
    (sh, sw), (dh, dw) = origin["strides"], origin["dilation"]
    data = np.pad(data.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    o, per_group, kh, kw = weight.shape
    rows = (data.shape[2] - dh * (kh - 1) - 1) // sh + 1
    columns = (data.shape[3] - dw * (kw - 1) - 1) // sw + 1
    out = np.zeros((data.shape[0], o, rows, columns))
    for channel in range(o):
        first = channel // (o // origin["groups"]) * per_group
        for y in range(kh):
            for x in range(kw):
                part = data[:, first : first + per_group, y * dh :, x * dw :]
                part = part[:, :, : (rows - 1) * sh + 1 : sh, : (columns - 1) * sw + 1 : sw]
                out[:, channel] += np.einsum("nchw,c->nhw", part, weight[channel, :, y, x])
    return out


def run(origin: dict[str, Any], channels_last: bool = False) -> tuple[Any, list[Any]]:
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(shape, dtype=np.float32) for shape in operand_shapes(origin) or []]
    prepared = OperatorCall("any", origin, channels_last).prepare(inputs)
    prepared.launch(2)
    return prepared.outputs()[0], inputs


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding", [[1, 0, 1, 0], [1, 0, 0, 2]], ids=["symmetric", "asymmetric"])
def test_a_convolution_with_bias_residual_and_relu(padding: list[int], channels_last: bool) -> None:
    origin = CONV | {"padding": padding, "epilogue": ["add", "add", "relu", "unpack"]}
    out, (data, weight, bias, residual) = run(origin, channels_last)
    expected = np.maximum(conv_reference(origin, data, weight) + bias[:, None, None] + residual, 0)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_an_add_after_the_activation_is_a_full_tensor() -> None:
    origin = CONV | {"epilogue": ["relu", "add"]}
    out, (data, weight, residual) = run(origin)
    np.testing.assert_allclose(
        out, np.maximum(conv_reference(origin, data, weight), 0) + residual, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("a", [[5, 7], [2, 5, 7]])
@pytest.mark.parametrize("epilogue", [[], ["add"], ["add", "add", "tanh"]])
def test_a_matrix_product(a: list[int], epilogue: list[str]) -> None:
    out, inputs = run(MATMUL | {"a": a, "epilogue": epilogue})
    expected = inputs[0].astype(np.float64) @ inputs[1] + sum(inputs[2:])
    np.testing.assert_allclose(out, np.tanh(expected) if "tanh" in epilogue else expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("origin", [{}, {"op": "pool"}, CONV | {"epilogue": ["erf_of_something"]}])
def test_what_pytorch_has_no_counterpart_for_has_no_baseline(origin: dict[str, Any]) -> None:
    assert operand_shapes(origin) is None


def test_a_child_times_the_better_layout() -> None:
    policy = dataclasses.asdict(SCREEN)
    settings = {"threads": 1, "runner": "tuner.devices.cpu.runner:CpuRunner"}
    with Child("tuner.baselines.kernels:KernelBaselineWorker", settings, env=thread_env(1)) as child:
        conv = child.call("time", 120, origin=CONV | {"epilogue": ["add", "relu"]}, policy=policy)
        matmul = child.call("time", 60, origin=MATMUL, policy=policy)
        nothing = child.call("time", 60, origin={}, policy=policy)
    assert conv["name"] in ("torch", "torch_channels_last")
    assert matmul["name"] == "torch"
    assert all(0 < max(timed["samples_s"]) < 1 and len(timed["samples_s"]) >= 3 for timed in (conv, matmul))
    assert nothing is None
