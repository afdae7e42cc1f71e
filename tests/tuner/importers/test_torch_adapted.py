"""Modules of any structure as functions of tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.errors import ModelError
from tuner.importers.pytorch.adapted import adapted, tensors_in
from tuner.importers.pytorch.inputs import layout_of


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class Cache:
    """Like those of transformers: an object that gives its layers."""

    def __init__(self, *layers: Any) -> None:
        self.layers = layers

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)


class Counting(nn.Module):
    """Writes to one buffer, and replaces another."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Tensor
        self.last: Tensor
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1.0)
        result = x * self.count + self.last
        self.last = x
        return result


class Returns(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Any:
        return self.value(x)


def _adapted(module: nn.Module, x: Tensor) -> tuple[nn.Module, tuple[Tensor, ...], list[str]]:
    return adapted("torch:m:f", module, layout_of("torch:m:f", module, [x]), (x,))


def test_tensors_are_found_in_every_structure() -> None:
    a, b, c = torch.zeros(1), torch.ones(1), torch.ones(2)
    assert [*tensors_in({"x": a, "y": [b, (c,)]})] == [a, b, c]
    assert [*tensors_in(Output(a))] == [a]
    assert [*tensors_in([Output(a, b), Cache((b, c, None)), "text", 3])][-2:] == [b, c]


def test_a_flat_module_stays_what_it_is() -> None:
    module = nn.Linear(2, 2)
    same, _, notes = _adapted(module, torch.ones(1, 2))
    assert same is module
    assert not notes


def test_buffers_that_are_written_begin_each_call_anew() -> None:
    x = torch.tensor([[1.0, 2.0]])
    module, _, notes = _adapted(Counting(), x)
    assert [module(x).tolist() for _ in range(2)] == [[[1.0, 2.0]]] * 2
    assert any("'count'" in note for note in notes)
    assert any("'last'" in note for note in notes)
    exported = torch.export.export(module, (x,)).module()
    assert exported(x).tolist() == [[1.0, 2.0]]


def test_types_that_numpy_lacks_are_others_outside() -> None:
    x = torch.ones(1, 2, dtype=torch.bfloat16)
    module, [given], notes = _adapted(Returns(lambda v: v + 1), x)
    assert given.dtype == torch.float32
    assert module(given).dtype == torch.float32
    assert notes[0] == "input input is given as float32, for bfloat16" or "x is given as float32" in notes[0]
    z = torch.tensor([[1.0 + 2.0j]])
    module, [given], _ = _adapted(Returns(lambda v: v.conj()), z)
    assert given.tolist() == [[[1.0, 2.0]]]
    assert module(given).tolist() == [[[1.0, -2.0]]]


def test_what_is_no_tensor_is_left_out_and_named() -> None:
    module, _, notes = _adapted(Returns(lambda v: {"y": v, "n": 3, "none": None, "text": "t"}), torch.ones(1))
    assert module(torch.ones(1)).tolist() == [1.0]
    assert notes == ["outputs that are no tensors are left out: int, str"]
    with pytest.raises(ModelError, match="returns no tensor"):
        _adapted(Returns(lambda v: None), torch.ones(1))
