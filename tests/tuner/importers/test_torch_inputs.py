"""How modules are called: names, structure, settings, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.errors import ModelError
from tuner.importers import make_model_spec
from tuner.importers.pytorch.inputs import bare_layout, layout_of, shaped


class Mixed(nn.Module):
    def forward(self, x: Tensor, parts: Any = None, scale: float = 1.0, *, bias: Any = None) -> Tensor:
        return x


class Many(nn.Module):
    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        return first


X = torch.ones(1, 2)


@pytest.mark.parametrize(
    ("module", "examples", "names"),
    [
        (Mixed(), [X], ["x"]),
        (Mixed(), [(X, None, 3.0)], ["x"]),
        (Mixed(), [[X, [X, (X, X)]]], ["x", "parts_0", "parts_1_0", "parts_1_1"]),
        (Mixed(), [(X, {"k": X, "v-1": X})], ["x", "parts_k", "parts_v_1"]),
        (Mixed(), [{"x": X, "bias": X}], ["x", "bias"]),
        (Mixed(), [(X,), {"bias": X}], ["x", "bias"]),
        (Mixed(), [(X, X, 1.0, X)], ["x", "parts", "bias"]),
        (Many(), [(X, X, X)], ["first", "arg1", "arg2"]),
    ],
)
def test_inputs_are_named_by_the_way_to_them(module: nn.Module, examples: Sequence[Any], names: list[str]) -> None:
    layout = layout_of("torch:m:f", module, examples)
    assert list(layout.names) == names
    assert layout.is_plain == (examples == [X] or isinstance(module, Many))


def test_a_call_has_the_example_s_structure_and_settings() -> None:
    layout = layout_of("torch:m:f", Mixed(), [(X, [X, None], 3.0)])
    args, kwargs = layout.call([X + 1, X + 2])
    assert not kwargs
    assert args[2] == 3.0
    assert args[1][1] is None
    assert (float(args[0].sum()), float(args[1][0].sum())) == (4.0, 6.0)


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([(X, object())], "the example input parts is a object"),
        ([(None, 3.0)], "no tensor among the example inputs"),
        ([3.0], "the example inputs are a float"),
        ([X, X], "three values"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(examples: Sequence[Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        layout_of("torch:m:f", Mixed(), examples)


def test_shapes_come_from_the_model_spec() -> None:
    layout = layout_of("torch:m:f", Mixed(), [(X, [torch.arange(3)[None]])])
    spec = make_model_spec("torch:m:f", 4, {"parts_0": (4, 5)}, "random", 0)
    first, second = shaped("torch:m:f", layout, spec)
    assert first.shape == (4, 2)
    assert second.shape == (4, 5)
    [only] = shaped("s", bare_layout("s", Mixed(), [(2, 3)]), make_model_spec("torch:m:f", None, {}, "random", 0))
    assert only.shape == (2, 3)
