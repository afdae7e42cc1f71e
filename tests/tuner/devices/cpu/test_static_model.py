"""The static model computes what TVM's virtual machine computes, and refuses what it was not compiled for."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.target import Target

from tests.contracts.device import tiny_model, tiny_outputs
from tests.contracts.launchable import LaunchableContract
from tests.tuner.measure.test_compiled_model import Library
from tuner import importers
from tuner.devices.cpu import CPU
from tuner.devices.cpu.assembly import assemble
from tuner.devices.cpu.static_model import StaticModel
from tuner.graph import GraphConfig, Lowered, clean, lower
from tuner.graph.plan import plan
from tuner.measure.compiled_model import Loaded, static_outputs
from tuner.models import ImportedModel
from tuner.protocols import Array, Launchable

TARGET = Target({"kind": "llvm", "num-cores": 2})


class Two(nn.Module):
    """Two inputs of different types, and two outputs of which one is seen in another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.wide = nn.Embedding(11, 24), nn.Linear(24, 40)

    def forward(self, tokens: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.softmax(self.wide(self.table(tokens) + x), -1)
        return (y @ y.transpose(1, 2)).argmax(-1), torch.relu(y).reshape(1, 5, 8, 5)


def two() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Two().eval(), (torch.arange(5).reshape(1, 5), torch.randn(1, 5, 24))


@pytest.fixture(scope="module")
def model() -> ImportedModel:
    return importers.load("torch:tests.tuner.devices.cpu.test_static_model:two", 1, {}, "random", 3)


@pytest.fixture(scope="module")
def lowered(model: ImportedModel) -> Lowered:
    return lower(clean(model.module), GraphConfig(), TARGET)


def exported(lowered: Lowered, path: Path, objects: dict[str, tuple[str, Path]] | None = None) -> Path:
    StaticModel(lowered, plan(lowered), objects or {}, TARGET).export_library(str(path))
    return path


@pytest.fixture(scope="module")
def library(lowered: Lowered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(lowered, tmp_path_factory.mktemp("static") / "model.so")


@pytest.fixture(scope="module")
def inputs(model: ImportedModel) -> list[Array]:
    return importers.model_inputs(model.inputs, model.model_spec, 5)


def by_virtual_machine(lowered: Lowered, inputs: Sequence[Array]) -> list[Array]:
    machine = relax.VirtualMachine(assemble(lowered, {}, TARGET), tvm.cpu())
    return [tensor.numpy() for tensor in machine["main"](*map(tvm.runtime.tensor, inputs))]


def run(library: Path, inputs: Sequence[Array]) -> list[Array]:
    prepared = Loaded(str(library), inputs)
    assert prepared.runtime == "static runtime"
    prepared.launch(2)
    return prepared.outputs()


def test_outputs_are_those_of_the_virtual_machine(library: Path, lowered: Lowered, inputs: list[Array]) -> None:
    module = tvm.runtime.load_module(str(library))
    assert static_outputs(module) == [((1, 5), "int64"), ((1, 5, 8, 5), "float32")]
    for got, expected in zip(run(library, inputs), by_virtual_machine(lowered, inputs), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_kernels_that_were_built_apart_are_linked_in(lowered: Lowered, inputs: list[Array], tmp_path: Path) -> None:
    builder = CPU.builder(json.dumps({"kind": "llvm", "num-cores": 2}), tmp_path / "built", 1, 60)
    objects = {}
    try:
        for task in lowered.tasks[::2]:
            space = builder.space(task, ())
            [artifact] = builder.build(task, [space.default()])
            name = next(n for n, key in lowered.kernels.items() if key == task.key)
            objects[name] = (artifact.entry, artifact.path.with_suffix(".o"))  # type: ignore[union-attr]
    finally:
        builder.close()
    library = exported(lowered, tmp_path / "linked.so", objects)
    for got, expected in zip(run(library, inputs), by_virtual_machine(lowered, inputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("wrong", ["type", "shape", "strides", "count"])
def test_other_arguments_are_refused(library: Path, inputs: list[Array], wrong: str) -> None:
    module = tvm.runtime.load_module(str(library))
    tokens, x = inputs
    out = [tvm.runtime.empty(shape, dtype) for shape, dtype in static_outputs(module)]
    given: list[Any] = {
        "type": [tokens.astype("int32"), x],
        "shape": [tokens, x[:, :4].copy()],
        "strides": [tokens, np.asfortranarray(x)],
        "count": [tokens],
    }[wrong]
    tensors = [torch.from_numpy(array) if wrong == "strides" else tvm.runtime.tensor(array) for array in given]
    with pytest.raises(ValueError, match="tuner_run"):
        module["tuner_run"](*tensors, *out)
    with pytest.raises(ValueError, match="no such output"):
        module["tuner_output"](2, 0)


def test_stamps_stand_around_every_call(library: Path, inputs: list[Array]) -> None:
    prepared = Loaded(str(library), inputs)
    data = ctypes.CDLL(str(library))
    count = ctypes.c_int.in_dll(data, "tuner_calls").value
    ctypes.c_int.in_dll(data, "tuner_stamping").value = 1
    prepared.launch(1)
    stamps = list((ctypes.c_int64 * (count + 1)).in_dll(data, "tuner_stamps"))
    names = [(name or b"").decode() for name in (ctypes.c_char_p * count).in_dll(data, "tuner_kernels")]
    assert stamps == sorted(stamps)
    assert stamps[0] > 0
    assert any("softmax" in name for name in names)
    ctypes.c_int.in_dll(data, "tuner_stamping").value = 0


class TestStatic(LaunchableContract):
    @pytest.fixture(scope="class")
    @classmethod
    def launchable(cls, tmp_path_factory: pytest.TempPathFactory) -> Launchable:
        lowered = lower(clean(tiny_model().module), GraphConfig(), TARGET)
        return Library(exported(lowered, tmp_path_factory.mktemp("tiny") / "model.so"))

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls) -> list[Array]:
        return [np.random.default_rng(1).standard_normal((4, 8), dtype=np.float32)]

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, inputs: list[Array]) -> list[Array]:
        return [tiny_outputs(inputs[0])]
