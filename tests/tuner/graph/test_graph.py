"""Cleaning, packing and linking keep what the model computes; PyTorch is the reference."""

from __future__ import annotations

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

from kernels.passes import PASSES
from tuner import importers
from tuner.devices.cpu import CPU
from tuner.devices.cpu.assembly import assemble
from tuner.graph import GraphConfig, clean, lower, output_specs
from tuner.graph.layout import block_of
from tuner.models import ImportedModel
from tuner.protocols import Artifact

Expected = tuple[list[np.ndarray], np.ndarray]  # the inputs and the output

TARGET = {"kind": "llvm", "num-cores": 2}


class Small(nn.Module):
    """One of everything that layouts must get right: odd channels, strides, groups, depthwise, a residual, a concat."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.left = nn.Conv2d(16, 16, 1)
        self.left_norm = nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 32, 3, padding=(1, 0), groups=2)
        self.odd = nn.Conv2d(32, 20, (1, 3), dilation=(1, 2))
        self.head = nn.Linear(20, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        y = torch.relu(self.depthwise(x))
        x = torch.relu(self.left_norm(self.left(y)) + x)
        x = torch.sigmoid(self.grouped(torch.cat([x[:, :8], y[:, 8:]], dim=1)))
        x = self.odd(x)
        output: torch.Tensor = self.head(x.mean((2, 3)))
        return output


class Mobile(nn.Module):
    """Padding on its own, uneven, before a convolution, and an activation with two bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(16, 32, 3, stride=2), nn.Conv2d(32, 16, 1)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=(1, 0), groups=32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.first(nn.functional.pad(x, (0, 1, 0, 1))))
        x = nn.functional.relu6(self.depthwise(nn.functional.pad(x, (1, 1, 0, 0))))
        output: torch.Tensor = self.last(x)
        return output


def mobile() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Mobile().eval(), (torch.randn(1, 16, 14, 15),)


def small_half() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Small().eval().half(), (torch.randn(1, 3, 33, 33).half(),)


def small() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Small().eval(), (torch.randn(1, 3, 33, 33),)


@pytest.fixture(scope="module")
def model() -> ImportedModel:
    return importers.load("torch:tests.tuner.graph.test_graph:small", 1, {}, "random", 3)


@pytest.fixture(scope="module")
def expected(model: ImportedModel) -> Expected:
    module, _ = importers.torch_module(model.model_spec)
    inputs = importers.model_inputs(model.inputs, model.model_spec, 5)
    with torch.no_grad():
        return inputs, module(*[torch.from_numpy(a) for a in inputs]).numpy()


def _run(executable: Any, inputs: Sequence[np.ndarray]) -> np.ndarray:
    output: np.ndarray = relax.VirtualMachine(executable, tvm.cpu())["main"](
        *[tvm.runtime.tensor(a) for a in inputs]
    ).numpy()
    return output


def _operators(module: tvm.IRModule) -> list[str]:
    return [
        str(b.value.op.name)
        for block in module["main"].body.blocks
        for b in block.bindings
        if isinstance(b.value, tvm.ir.Call) and isinstance(b.value.op, tvm.ir.Op)
    ]


def test_clean_folds_batch_norms_and_keeps_the_output(model: ImportedModel, expected: Expected) -> None:
    inputs, output = expected
    cleaned = clean(model.module)
    assert "relax.nn.batch_norm" in _operators(model.module)
    names = _operators(cleaned)
    assert "relax.nn.batch_norm" not in names
    assert "relax.permute_dims" not in names  # the weights of the linear layer are transposed already
    assert _operators(cleaned).count("relax.nn.conv2d") == 5
    np.testing.assert_allclose(_run(tvm.compile(cleaned, Target(TARGET)), inputs), output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NCHW4c", "NCHW8c", "NCHW16c"])
@pytest.mark.parametrize("depth", [-1, 0, 2])
def test_every_graph_configuration_keeps_the_output(
    model: ImportedModel, expected: Expected, layout: str, depth: int
) -> None:
    inputs, output = expected
    lowered = lower(clean(model.module), GraphConfig(layout, depth), Target(TARGET))
    np.testing.assert_allclose(_run(assemble(lowered, {}, Target(TARGET)), inputs), output, rtol=1e-4, atol=1e-5)
    assert output_specs(lowered) == [([1, 7], "float32")]


def test_convolution_bias_residual_and_activation_are_one_kernel(model: ImportedModel) -> None:
    lowered = lower(clean(model.module), GraphConfig("NCHW16c"), Target(TARGET))
    names = [t.name for t in lowered.tasks]
    assert any(name.startswith("conv2d_1x1") and name.endswith("_add_add_relu") for name in names), names


def test_padding_and_bounds_stay_in_the_convolutions_kernel() -> None:
    model = importers.load("torch:tests.tuner.graph.test_graph:mobile", 1, {}, "random", 3)
    lowered = lower(clean(model.module), GraphConfig("NCHW16c"), Target(TARGET))
    assert {task.name for task in lowered.tasks if task.workload.origin} == {
        "conv2d_3x3s2_16x14x15_to_32_add_clip", "depthwise_conv2d_3x3_32x7x7_to_32_add_clip",
        "conv2d_1x1_32x7x7_to_16_add",
    }  # fmt: skip
    assert {task.name for task in lowered.tasks if not task.workload.origin} == {"pack", "unpack"}
    inputs = importers.model_inputs(model.inputs, model.model_spec, 5)
    module, _ = importers.torch_module(model.model_spec)
    with torch.no_grad():
        output = module(*[torch.from_numpy(a) for a in inputs]).numpy()
    np.testing.assert_allclose(_run(assemble(lowered, {}, Target(TARGET)), inputs), output, rtol=1e-4, atol=1e-5)


def test_winners_are_linked_into_the_model(model: ImportedModel, expected: Expected, tmp_path: Path) -> None:
    inputs, output = expected
    lowered = lower(clean(model.module), GraphConfig("NCHW16c"), Target(TARGET))
    builder = CPU.builder(json.dumps(TARGET), tmp_path / "built", 2, 60)
    winners = {}
    try:
        for task in lowered.tasks:
            space = builder.space(task, tuple(PASSES))
            [built] = builder.build(task, space.initial_candidates()[:1])
            assert isinstance(built, Artifact), built
            winners[task.key] = (built.entry, built.path.with_suffix(".o"))
    finally:
        builder.close()
    library = tmp_path / "model.so"
    assemble(lowered, winners, Target(TARGET)).export_library(str(library))
    text = library.read_bytes()
    assert all(entry.encode() in text for entry, _ in winners.values())
    np.testing.assert_allclose(_run(tvm.runtime.load_module(str(library)), inputs), output, rtol=1e-4, atol=1e-5)


def test_tasks_merge_duplicates_and_count_calls() -> None:
    model = importers.load("onnx:light_squeezenet", 1, {}, "random", 0)
    lowered = lower(clean(model.module), GraphConfig("NCHW16c"), Target(TARGET))
    assert sum(t.weight for t in lowered.tasks) > len(lowered.tasks)
    assert len({t.key for t in lowered.tasks}) == len(lowered.tasks)
    assert set(lowered.kernels.values()) == {t.key for t in lowered.tasks}


@pytest.mark.parametrize(
    ("channels", "lanes", "block"), [(64, 16, 16), (1000, 16, 8), (3, 16, 3), (136, 16, 8), (17, 16, 1), (6, 16, 6)]
)
def test_blocks_fill_registers(channels: int, lanes: int, block: int) -> None:
    assert block_of(channels, lanes) == block


def test_a_model_in_half_precision_stays_in_it_and_computes_the_same() -> None:
    loaded = importers.load("torch:tests.tuner.graph.test_graph:small_half", 1, {}, "random", 3)
    graph = lower(clean(loaded.module), GraphConfig("NCHW"), Target(TARGET))
    convolutions = [t.workload for t in graph.tasks if t.name.startswith("conv2d")]
    assert convolutions
    assert {spec.dtype for w in convolutions for spec in w.args} == {"float16"}
    inputs = importers.model_inputs(loaded.inputs, loaded.model_spec, 0)
    module, _ = importers.torch_module(loaded.model_spec)
    with torch.inference_mode():
        wanted = module.float()(*[torch.from_numpy(array).float() for array in inputs]).numpy()
    output = _run(assemble(graph, {}, Target(TARGET)), inputs)
    assert output.dtype == np.float16
    np.testing.assert_allclose(output, wanted, rtol=2e-2, atol=2e-2 * np.abs(wanted).max())


def test_parameters_get_names_that_compilers_take() -> None:
    builder = relax.BlockBuilder()
    names = ("gpu_0/data_0", "gpu_0_data_0", "0", "x")
    params = [relax.Var(name, relax.TensorType((2, 3), "float32")) for name in names]
    with builder.function("main", params):
        with builder.dataflow():
            total = params[0]
            for param in params[1:]:
                total = builder.emit(relax.op.multiply(relax.op.add(total, param), param))
            result = builder.emit_output(total)
        builder.emit_func_output(result)
    module = clean(builder.get())
    renamed = [param.name for param in module["main"].params]
    assert renamed == ["gpu_0_data_0", "gpu_0_data_0_2", "arg_0", "x"]
    arrays = [np.full((2, 3), value, np.float32) for value in (1, 2, 3, 4)]
    lowered = lower(module, GraphConfig("NCHW"), Target(TARGET))
    [value] = np.unique(_run(assemble(lowered, {}, Target(TARGET)), arrays))
    assert value == (((1 + 2) * 2 + 3) * 3 + 4) * 4


def test_tasks_say_which_arguments_are_constant(model: ImportedModel) -> None:
    tasks = lower(clean(model.module), GraphConfig("NCHW"), Target(TARGET)).tasks
    convolutions = [task for task in tasks if task.name.startswith("conv")]
    assert convolutions
    for task in convolutions:
        assert task.constants.positions[:2] == (1, 2)  # the weight and the bias; the data and the residual are not
        assert 0 not in task.constants.positions
    assert any(not task.constants.positions for task in tasks)
    sizes = {sum(task.workload.args[p].nbytes for p in task.constants.positions) for task in tasks}
    assert {task.constants.model_bytes for task in tasks} == {tasks[0].constants.model_bytes}
    assert tasks[0].constants.model_bytes >= sum(sizes)
