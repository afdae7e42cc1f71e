"""The sabotage suite: faults of every kind on ten models are seen, and right results of other implementations pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tuner.baselines.exact import ExactWorker
from tuner.importers.onnx_weights import draws
from tuner.measure.accuracy import Yardstick, degenerate
from tuner.protocols import Array

Fault = Callable[[Array], Array]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (4, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        scores = torch.softmax(q @ k.transpose(-1, -2) * 8**-0.5, -1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Peaked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 200)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(30.0 * self.linear(x), -1)


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64).half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x.half())).float()


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, 2:].cumsum(1), x[:, :2]], 1)


MODELS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3)), (1, 3, 9, 9)),
    "residual": (lambda: nn.Sequential(Residual(), Residual()), (2, 8, 10, 10)),
    "perceptron": (lambda: nn.Sequential(nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 40)), (4, 48)),
    "attention": (Attention, (1, 12, 32)),
    "peaked": (Peaked, (4, 64)),
    "norm": (lambda: nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.Tanh()), (2, 9, 32)),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Mish(), nn.Conv2d(8, 9, 1)), (1, 8, 14, 14)),
    "pooled": (lambda: nn.Sequential(nn.Conv2d(4, 16, 5, 2), nn.SiLU(), nn.AvgPool2d(2)), (1, 4, 23, 23)),
    "half": (Half, (4, 64)),
    "sums": (Doubled, (3, 18, 5)),
}  # fmt: skip


def made(spec: Mapping[str, str]) -> tuple[Any, tuple[()]]:
    """A provider: the model of MODELS, its weights always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return MODELS[spec["model"]][0]().eval(), ()


def drawn(name: str, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(MODELS[name][1]).astype(np.float32)


@functools.cache
def known(name: str, folder: Path) -> tuple[Yardstick, Array]:
    """What is right for a model, and what PyTorch answers in the model's own precision."""
    inputs, path = folder / "in.npz", folder / f"{name}.npz"
    np.savez(inputs, drawn(name))
    unit = ExactWorker({"model": name}, 1, f"{__name__}:made").op_outputs(str(inputs), str(path))["unit"]
    with np.load(path) as stored:
        samples = [[stored[f"noisy_{run}_0"]] for run in range(3)]
        return Yardstick([stored["exact_0"]], samples, unit), answer(name, drawn(name))


def answer(name: str, inputs: Array) -> Array:
    with torch.inference_mode():
        result: Array = made({"model": name})[0](torch.from_numpy(inputs)).numpy()
    return result


def put(index: Callable[[Array], Any], value: Callable[[Array], object]) -> Fault:
    """Some elements replaced."""

    def fault(right: Array) -> Array:
        wrong = right.copy()
        wrong[index(right)] = value(right)
        return wrong

    return fault


def largest(right: Array) -> Any:
    return np.unravel_index(np.abs(right).argmax(), right.shape)


def in_blocks(right: Array, count: int, change: Callable[[Array], Array]) -> Array:
    flat = right.ravel().copy()
    flat[: flat.size // count] = change(flat[: flat.size // count])
    return flat.reshape(right.shape)


FAULTS: Mapping[str, Fault] = {
    "all zeros": np.zeros_like,
    "all ones": np.ones_like,
    "one NaN": put(lambda a: (0,) * a.ndim, lambda a: np.nan),
    "one infinity": put(lambda a: (-1,) * a.ndim, lambda a: np.inf),
    "all NaN": lambda a: np.full_like(a, np.nan),
    "scaled by 1.001": lambda a: a * np.float32(1.001),
    "scaled by 0.99": lambda a: a * np.float32(0.99),
    "doubled": lambda a: a * 2,
    "negated": lambda a: -a,
    "absolute": lambda a: -np.abs(a),
    "a constant added": lambda a: a + np.float32(0.05) * np.abs(a).max(),
    "one channel's bias missing": put(lambda a: (slice(None), 1), lambda a: a[:, 1] + 0.1 * np.abs(a).max()),
    "the last axis' bias missing": put(lambda a: (..., 2), lambda a: a[..., 2] + 0.1 * np.abs(a).max()),
    "channels swapped": lambda a: a[:, [1, 0, *range(2, a.shape[1])]],
    "channels reversed": lambda a: a[:, ::-1],
    "last axis reversed": lambda a: a[..., ::-1],
    "off by one along the last axis": lambda a: np.roll(a, 1, -1),
    "off by one back": lambda a: np.roll(a, -1, -1),
    "off by one channel": lambda a: np.roll(a, 1, 1),
    "off by a vector": lambda a: np.roll(a.ravel(), 8).reshape(a.shape),
    "last axis transposed with another order": lambda a: np.swapaxes(a, -1, -2).reshape(a.shape),
    "flat order reversed": lambda a: a.ravel()[::-1].reshape(a.shape),
    "half a tile missing": lambda a: in_blocks(a, 2, np.zeros_like),
    "a quarter missing": lambda a: in_blocks(a, 4, np.zeros_like),
    "an eighth stale": lambda a: in_blocks(a, 8, lambda part: part[::-1].copy()),
    "a tile twice": lambda a: np.concatenate([a.ravel()[: a.size // 2]] * 3)[: a.size].reshape(a.shape),
    "tail not written": put(lambda a: (..., slice(-1, None)), lambda a: 0.0),
    "head not written": put(lambda a: (..., slice(0, 1)), lambda a: 0.0),
    "first channel not written": put(lambda a: (slice(None), 0), lambda a: 0.0),
    "last channel not written": put(lambda a: (slice(None), -1), lambda a: 0.0),
    "a channel copied": put(lambda a: (slice(None), 0), lambda a: a[:, 1]),
    "padding's edge wrong": put(lambda a: (..., 0), lambda a: a[..., 0] * 0.5),
    "largest element off by one percent": put(largest, lambda a: a[largest(a)] * 1.02),
    "largest element zero": put(largest, lambda a: 0.0),
    "all but the largest zero": lambda a: np.where(np.abs(a) == np.abs(a).max(), a, 0).astype(a.dtype),
    "wrong class": lambda a: np.where(a == a.max(-1, keepdims=True), np.float32(0), a),
    "small elements flushed": lambda a: np.where(np.abs(a) < np.median(np.abs(a)), 0, a).astype(a.dtype),
    "rounded to few digits": lambda a: (np.round(a / np.abs(a).max() * 50) / 50 * np.abs(a).max()).astype(a.dtype),
    "truncated to 6 bits": lambda a: np.ldexp(np.trunc(np.frexp(a)[0] * 64) / 64, np.frexp(a)[1]).astype(a.dtype),
    "clipped": lambda a: np.clip(a, -0.5 * np.abs(a).max(), 0.5 * np.abs(a).max()),
    "mean instead": lambda a: np.full_like(a, a.mean()),
    "noise of a percent": lambda a: a * (1 + 0.01 * np.random.default_rng(0).standard_normal(a.shape)).astype(a.dtype),
}
"""Applied to a right output in the model's precision."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accuracy")


@pytest.mark.parametrize("name", MODELS)
def test_every_fault_is_seen_and_the_right_answer_is_not_refused(name: str, folder: Path) -> None:
    yardstick, right = known(name, folder)
    assert yardstick.check([right]).reason == ""
    assert yardstick.check([yardstick.exact[0].astype(np.float32)]).reason == ""
    with_peer = yardstick.with_peer([right])
    passed = [
        fault
        for fault, change in FAULTS.items()
        if not (name == "half" and fault == "scaled by 1.001")  # two roundings of half precision are no fault
        and not np.array_equal(wrong := np.ascontiguousarray(change(right)), right, equal_nan=True)
        and (yardstick.check([wrong]).ok or with_peer.check([wrong]).ok)
    ]
    assert passed == []


def test_the_output_for_other_inputs_is_seen(folder: Path) -> None:
    for name in MODELS:
        assert not known(name, folder)[0].check([answer(name, drawn(name, 1))]).ok, name


def test_faults_of_the_graph_are_seen(folder: Path) -> None:
    yardstick, right = known("residual", folder)
    for fault in (
        lambda m: m[1].inner[0].bias.zero_(), lambda m: m[0].inner[0].weight.copy_(m[0].inner[0].weight.flip(0)),
        lambda m: m[0].inner[0].weight.copy_(m[0].inner[0].weight.half()), lambda m: m[1].inner[1].running_var.mul_(2),
        lambda m: setattr(m[0].inner[0], "padding_mode", "replicate"), lambda m: m.pop(1),
        lambda m: m[0].inner.pop(2), lambda m: m[0].inner[0].weight.copy_(m[0].inner[0].weight.transpose(2, 3).clone()),
    ):  # fmt: skip
        module = made({"model": "residual"})[0]
        with torch.no_grad():
            fault(module)
            if getattr(module[0].inner[0], "padding_mode", "") == "replicate":
                module[0].inner[0]._reversed_padding_repeated_twice = [1] * 4  # noqa: SLF001
            wrong = module(torch.from_numpy(drawn("residual"))).numpy()
        assert wrong.shape == right.shape
        assert not yardstick.check([wrong]).ok


def test_another_order_of_sums_is_right(folder: Path) -> None:
    yardstick, _ = known("perceptron", folder)
    first, _, last = made({"model": "perceptron"})[0]
    x, order = drawn("perceptron"), np.random.default_rng(0).permutation(48)
    w, b, v, c = (t.detach().numpy() for t in (first.weight, first.bias, last.weight, last.bias))
    hidden = b + sum((x[:, i : i + 1] * w[:, i] for i in order), np.zeros((4, 96), np.float32))
    hidden = nn.functional.gelu(torch.from_numpy(hidden)).numpy()
    other = c + sum((hidden[:, i : i + 1] * v[:, i] for i in range(95, -1, -1)), np.zeros((4, 40), np.float32))
    assert yardstick.check([other]).reason == ""


def test_integers_are_exact_unless_rounding_decides_them() -> None:
    want, near = np.array([999, 7]), np.array([999, 8])
    assert Yardstick([want], [[want]], 1e-7).check([want]).ok
    assert not Yardstick([want], [[want]], 1e-7).check([np.array([998, 7])]).ok
    assert Yardstick([want], [[near]], 1e-7).check([near]).ok
    assert not Yardstick([want], [[near]], 1e-7).check([np.array([998, 8])]).ok


def test_few_quantized_values_may_be_one_step_off() -> None:
    want = np.arange(200).astype(np.uint8)
    yardstick = Yardstick([want], [[want]], 1e-7)
    one, many, two = want.copy(), want.copy(), want.copy()
    one[3] += 1
    many[:100] += 1
    two[3] += 2
    assert yardstick.check([one]).ok
    assert not yardstick.check([many]).ok
    assert not yardstick.check([two]).ok


def test_a_scalar_can_be_verified_and_outputs_without_information_cannot() -> None:
    scalar = np.array(8.0)
    yardstick = Yardstick([scalar], [[scalar + 1e-6]], 6e-8)
    assert yardstick.check([np.array(8.000001, np.float32)]).ok
    assert not yardstick.check([np.array(8.008, np.float32)]).ok
    assert degenerate([scalar]) == ""
    assert degenerate([np.full(3, np.nan)]) == "an output has no finite element"
    assert degenerate([np.ones(3)]) == "every output is one constant"
    assert degenerate([np.ones(3), np.arange(3.0)]) == ""


class Total(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


def test_a_variance_is_drawn_positive() -> None:
    from onnx import TensorProto, helper

    tensor = helper.make_tensor
    graph = helper.make_graph(
        [helper.make_node("Add", ["v", "e"], ["s"]), helper.make_node("Sqrt", ["s"], ["d"]),
         helper.make_node("Div", ["x", "d"], ["y"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [tensor("v", TensorProto.FLOAT, [64], [1.0] * 64), tensor("e", TensorProto.FLOAT, [], [1e-5])],
    )  # fmt: skip
    assert (draws(helper.make_model(graph), 0)["v"]() > 0).all()


def scalar(spec: Mapping[str, str]) -> tuple[nn.Module, tuple[()]]:
    """A provider: the sum of all inputs, without any dimension."""
    return Total(), ()


def test_the_float64_run_of_a_scalar_stays_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", np.ones((2, 3), np.float32))
    found = ExactWorker({}, 1, f"{__name__}:scalar").op_outputs(str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    assert found == {"unit": 2.0**-24}
    with np.load(tmp_path / "out.npz") as stored:
        assert (stored["exact_0"].shape, float(stored["exact_0"])) == ((), 6.0)


class Cube(nn.Module):
    """x to the power of 3, the exponent as a tensor, as ONNX stores it."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent: torch.Tensor
        self.register_buffer("exponent", torch.tensor(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.pow(x, self.exponent)


def cube(spec: Mapping[str, str]) -> tuple[nn.Module, tuple[()]]:
    return Cube(), ()


def test_an_exponent_stays_whole_under_noise(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", np.array([-2.0, 3.0], np.float32))
    ExactWorker({}, 1, f"{__name__}:cube").op_outputs(str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["exact_0"].tolist() == [-8.0, 27.0]
        assert (stored["noisy_0_0"] != stored["exact_0"]).all()
        np.testing.assert_allclose(stored["noisy_0_0"], stored["exact_0"], rtol=1e-5)


def test_what_the_dtype_cannot_hold_is_infinite_and_nan_only_where_the_reference_has_it() -> None:
    want = np.array([1e6, 1.0, np.nan])
    yardstick = Yardstick([want], [[want]], 5e-4)
    assert yardstick.check([np.array([np.inf, 1.0, np.nan], np.float16)]).ok
    assert not yardstick.check([np.array([np.inf, 1.0, 0.0], np.float16)]).ok
    assert not yardstick.check([np.array([1e6, np.nan, np.nan], np.float32)]).ok
