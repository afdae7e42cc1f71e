"""Kernels of one model computed by different algorithms give what the model gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.target import Target

from tuner import importers
from tuner.devices.cpu.assembly import assemble
from tuner.graph import DIRECT, Choices, GraphConfig, Lowered, choices, clean, lower
from tuner.graph.convolution import Geometry
from tuner.graph.winograd import sizes
from tuner.models import ImportedModel

TARGET = Target({"kind": "llvm", "num-cores": 2})


class Residual(nn.Module):
    """3x3 convolutions: with a residual, without padding, of few and of many channels, and one with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.same = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.wide = nn.Conv2d(16, 48, 3)
        self.strided = nn.Conv2d(48, 32, 3, stride=2, padding=1)
        self.last = nn.Conv2d(64, 24, 3, padding=(1, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for convolution in self.same:
            x = torch.relu(convolution(x) + x)
        x = torch.relu(self.wide(x))
        x = torch.cat([torch.relu(self.strided(x)), torch.sigmoid(self.strided(x))], 1)
        output: torch.Tensor = self.last(x)
        return output


def residual() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Residual().eval(), (torch.randn(1, 3, 19, 23),)


@pytest.fixture(scope="module")
def model() -> ImportedModel:
    return importers.load("torch:tests.tuner.graph.test_algorithms:residual", 1, {}, "random", 3)


@pytest.fixture(scope="module")
def found(model: ImportedModel) -> Choices:
    cleaned = clean(model.module)

    def again(config: GraphConfig) -> Lowered:
        return lower(cleaned, config, TARGET)

    return choices(again(GraphConfig("NCHW16c")), again)


def outputs(lowered: Lowered, model: ImportedModel) -> np.ndarray:
    inputs = importers.model_inputs(model.inputs, model.model_spec, 5)
    machine = relax.VirtualMachine(assemble(lowered, {}, TARGET), tvm.cpu())
    result: np.ndarray = machine["main"](*[tvm.runtime.tensor(a) for a in inputs]).numpy()
    return result


def test_each_fitting_convolution_has_other_ways(found: Choices) -> None:
    ways = {task.name: list(found.ways(task.key)) for task in found.lowered.tasks}
    assert {name for name, names in ways.items() if len(names) > 1} == {
        "conv2d_3x3_16x19x23_to_16_add_add_relu", "conv2d_3x3_16x19x23_to_48_add_relu",
        "conv2d_3x3_64x9x11_to_24_add",
    }  # fmt: skip
    assert all(names[0] == DIRECT for names in ways.values())


@pytest.mark.parametrize("which", [0, -1, "mixed"])
def test_the_model_gives_the_same_with_any_algorithms(found: Choices, model: ImportedModel, which: int | str) -> None:
    wanted = {}
    for number, task in enumerate(found.lowered.tasks):
        ways = list(found.ways(task.key).values())
        wanted[task.key] = ways[number % len(ways) if isinstance(which, str) else which]
    lowered = found.mixed(wanted)
    assert {t.key for t in lowered.tasks} == set(wanted.values()) == set(lowered.kernels.values())
    assert [t.weight for t in lowered.tasks] == [t.weight for t in found.lowered.tasks]
    np.testing.assert_allclose(outputs(lowered, model), outputs(found.lowered, model), rtol=1e-4, atol=1e-5)


def test_a_graph_is_found_again_by_its_tasks(found: Choices) -> None:
    last = {t.key: list(found.ways(t.key).values())[-1] for t in found.lowered.tasks}
    again = found.with_tasks(set(last.values()))
    assert again is not None
    assert {t.key for t in again.tasks} == set(last.values())
    assert found.with_tasks({*last.values(), "unknown"}) is None


def test_ways_of_one_kernel_are_a_group(found: Choices) -> None:
    groups = found.groups
    for task in found.lowered.tasks:
        ways = found.ways(task.key)
        if len(ways) > 1:
            assert {groups[key] for key in ways.values()} == {task.key}
        else:
            assert task.key not in groups


@pytest.mark.parametrize(
    ("channels", "size", "wanted"),
    [
        (64, 56, (4,)),  # a larger tile saves too little, a smaller one nothing
        (64, 224, (4, 6)),
        (256, 14, (2, 4)),  # the weights of the larger tile no longer fit the caches
        (512, 7, (2, 4)),
        (64, 3, (2,)),
        (8, 56, ()),
    ],
)
def test_the_sizes_worth_a_search(channels: int, size: int, wanted: tuple[int, ...]) -> None:
    geometry = Geometry((1, channels, size, size), (channels, channels, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
    assert sizes(geometry, "float32") == wanted
    assert sizes(geometry, "float16") == ()
