"""A plan has every call in order, and no two tensors that live at the same time share bytes."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from tvm import relax
from tvm.target import Target

from tuner import importers
from tuner.devices.cpu.static_model import StaticModel
from tuner.graph import GraphConfig, Lowered, clean, lower
from tuner.graph.clobbering import clobbered
from tuner.graph.joins import ALIGNMENT
from tuner.graph.plan import Place, Plan, Unplannable, plan
from tuner.measure.compiled_model import Loaded

TARGET = Target({"kind": "llvm", "num-cores": 2})


class Branches(nn.Module):
    """Tensors of several sizes that live for a while, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.last = nn.Linear(24, 96), nn.Linear(96, 8), nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.softmax(self.wide(x), -1)
        z = torch.softmax(self.last(torch.softmax(self.narrow(y), -1)), -1)
        return torch.softmax(z + x, -1), y


class Dense(nn.Module):
    """Each layer reads what all before it have made; the last whole is read by two, and by an addition that fuses."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(16 * (i + 1), 16, 1) for i in range(3))
        self.last, self.other = nn.Conv2d(64, 16, 1), nn.Conv2d(64, 16, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.max_pool2d(x, 2)
        for layer in self.layers:
            x = torch.cat([x, layer(torch.relu(x))], 1)
        y = torch.cat([self.last(x), self.other(x), self.last(torch.relu(x))], 1)
        return y + 1.0


def dense() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Dense().eval(), (torch.randn(1, 16, 6, 8),)


def branches() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Branches().eval(), (torch.randn(1, 5, 24),)


@pytest.fixture(scope="module")
def lowered() -> Lowered:
    model = importers.load("torch:tests.tuner.graph.test_plan:branches", 1, {}, "random", 3)
    return lower(clean(model.module), GraphConfig(), TARGET)


@pytest.fixture(scope="module")
def made(lowered: Lowered) -> Plan:
    return plan(lowered)


def test_every_kernel_is_called_as_often_as_its_weight_says(lowered: Lowered, made: Plan) -> None:
    counts: dict[str, int] = {}
    for call in made.calls:
        key = lowered.kernels[call.kernel]
        counts[key] = counts.get(key, 0) + 1
    assert counts == {task.key: task.weight for task in lowered.tasks}


def test_tensors_that_live_at_the_same_time_share_no_bytes(made: Plan) -> None:
    lives: dict[tuple[int, int], list[int]] = {}  # by (offset, bytes): the calls that touch it
    for number, call in enumerate(made.calls):
        for tensor in call.arguments:
            if tensor.place.kind == "arena":
                size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
                lives.setdefault((tensor.place.at, size), []).append(number)
                assert tensor.place.at % ALIGNMENT == 0
                assert tensor.place.at + size <= made.arena_bytes
    assert len(lives) > 2
    for ((a, size_a), calls_a), ((b, size_b), calls_b) in itertools.combinations(lives.items(), 2):
        overlap_in_memory = a < b + size_b and b < a + size_a
        overlap_in_time = min(calls_a) <= max(calls_b) and min(calls_b) <= max(calls_a)
        assert not (overlap_in_memory and overlap_in_time)


@pytest.mark.parametrize("in_place", [False, True])
def test_every_tensor_is_read_as_it_was_written(lowered: Lowered, in_place: bool) -> None:
    planned = plan(lowered, in_place=in_place)
    assert clobbered(lowered, planned) == ""
    *before, last = [call for call in planned.calls if call.arguments[0].place.kind == "arena"]
    moved = dataclasses.replace(last.arguments[0], place=Place("arena", last.arguments[0].place.at + 64))
    wrong = dataclasses.replace(last, arguments=(moved, *last.arguments[1:]))
    calls = tuple(wrong if call is last else call for call in planned.calls)
    assert "reads what calls" in clobbered(lowered, dataclasses.replace(planned, calls=calls))
    assert before
    assert "calls are planned" in clobbered(lowered, dataclasses.replace(planned, calls=planned.calls[1:]))


def test_outputs_are_written_where_the_caller_wants_them(made: Plan) -> None:
    assert [t.place for t in made.outputs] == [Place("output", 0), Place("output", 1)]
    assert [t.shape for t in made.outputs] == [(1, 5, 24), (1, 5, 96)]
    assert [t.place for t in made.inputs] == [Place("input", 0)]
    written = [call.arguments[-1].place for call in made.calls]
    assert written.count(Place("output", 0)) == written.count(Place("output", 1)) == 1


def test_constants_are_stored_once(made: Plan) -> None:
    offsets = [offset for offset, _ in made.constants]
    assert offsets == sorted(set(offsets))
    assert sum(array.nbytes for _, array in made.constants) >= 4 * (24 * 96 + 96 * 8 + 8 * 24)


def test_concatenations_are_written_in_place(tmp_path: Path) -> None:
    model = importers.load("torch:tests.tuner.graph.test_plan:dense", 1, {}, "random", 3)
    lowered = lower(clean(model.module), GraphConfig("NCHW16c"), TARGET)
    names = [task.name for task in lowered.tasks]
    assert not [name for name in names if name == "concatenate"], names
    made = plan(lowered)
    assert clobbered(lowered, made) == ""
    tensors = [t for call in made.calls for t in call.arguments]
    wholes = {t.place.at for t in tensors if t.shape == (1, 4, 3, 4, 16)}
    parts = {t.place.at for t in tensors if t.shape == (1, 1, 3, 4, 16)}
    assert any(parts >= {whole + i * 4 * 16 * 3 * 4 for i in (2, 3)} for whole in wholes)
    library = tmp_path / "dense.so"
    StaticModel(lowered, made, {}, TARGET).export_library(str(library))
    inputs = importers.model_inputs(model.inputs, model.model_spec, 5)
    prepared = Loaded(str(library), inputs)
    prepared.launch(2)
    module, _ = importers.torch_module(model.model_spec)
    with torch.no_grad():
        expected = module(*[torch.from_numpy(a) for a in inputs]).numpy()
    np.testing.assert_allclose(prepared.outputs()[0], expected, rtol=1e-4, atol=1e-5)


def test_an_output_that_is_an_input_cannot_be_planned(lowered: Lowered) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 2), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    with pytest.raises(Unplannable, match="an output that is an input"):
        plan(Lowered(builder.finalize(), GraphConfig(), ()))


def test_tensors_of_a_dtype_that_c_has_not_cannot_be_planned() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 2), "float8_e4m3fn"))
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    with pytest.raises(Unplannable, match="tensors of float8_e4m3fn"):
        plan(Lowered(builder.finalize(), GraphConfig(), ()))
