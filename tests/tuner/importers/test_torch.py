"""PyTorch models: relax, torch and ONNX Runtime must give the same outputs; wrong sources one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contracts.importer import ImporterContract
from tuner import importers
from tuner.errors import ModelError
from tuner.importers.torch_uses import by_example
from tuner.importers.use import Use
from tuner.models import InputSpec

MODELS = "torch:tests.tuner.importers.torch_models"


class TestConvNet(ImporterContract):
    @pytest.fixture
    def source(self) -> str:
        return f"{MODELS}:conv_net"


class TestEncoder(ImporterContract):
    """Integer inputs, a mask, and two outputs in a mapping."""

    @pytest.fixture
    def source(self) -> str:
        return f"{MODELS}:encoder"


def test_inputs_are_named_by_forward() -> None:
    model = importers.load(f"{MODELS}:encoder", 2, {"ids": (2, 9), "arg1": (2, 9)}, "random", 0)
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("ids", (2, 9), "int64"),
        ("mask", (2, 9), "int64"),
    ]
    ids, mask = importers.model_inputs(model.inputs, model.model_spec, 0)
    assert ids.min() >= 0
    assert 9 < ids.max() < 50, "the table has 50 rows"
    assert set(np.unique(mask)) == {0, 1}


def test_a_module_alone_takes_its_shapes_from_the_config() -> None:
    model = importers.load(f"{MODELS}:conv_net_alone", 1, {"arg0": (2, 3, 8, 8)}, "random", 0)
    assert [(spec.name, spec.shape) for spec in model.inputs] == [("image", (2, 3, 8, 8))]


def test_weights_follow_the_seed_and_settle() -> None:
    def build(seed: int) -> torch.nn.Module:
        return importers.torch_module(importers.make_model_spec(f"{MODELS}:conv_net", 1, {}, "random", seed))[0]

    state = torch.random.get_rng_state()
    one, same, other = (build(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random state is left alone"
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert all(not torch.equal(one[key], other[key]) for key in one if "num_batches" not in key)
    variance = one["norm.running_var"]
    assert 0.01 < variance.min() < variance.max() < 10
    assert variance.std() > 0


@pytest.mark.parametrize(
    ("source", "inputs", "words"),
    [
        ("torch:no_such_package:make", {}, "there is no module no_such_package"),
        ("torch:tests.tuner.importers.no_such:make", {}, "there is no module tests.tuner.importers.no_such"),
        (f"{MODELS}:conv_ned", {}, "conv_ned does not exist.*\n.*'conv_net'"),
        (f"{MODELS}:constant", {}, "constant is not callable"),
        (MODELS, {}, "not an import path"),
        ("torch:models/net.py:make", {}, "not an import path"),
        (f"{MODELS}:fails", {}, "callable fails: OSError: no weights here"),
        (f"{MODELS}:not_a_module", {}, "returns a str"),
        (f"{MODELS}:conv_net_alone", {}, "no example inputs.*\n.*arg0"),
        (f"{MODELS}:conv_net", {"imag": (1, 3, 8, 8)}, "did you mean 'image'"),
        (f"{MODELS}:wrong_example", {}, "fails on random inputs: RuntimeError"),
        (f"{MODELS}:branches", {}, r"control flow depends on the data \(torch_models.py, line \d+: return x \+ 1 if"),
        (f"{MODELS}:packed", {}, r"the layer 0 \(Linear\) keeps its weights packed"),
        (f"{MODELS}:exotic", {}, "TVM does not support the operator aten.linalg_qr"),
    ],
)
def test_one_clear_error(source: str, inputs: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        importers.load(source, 1, inputs, "random", 0)
    assert caught.value.source == source
    assert len(str(caught.value).splitlines()) <= 2


def test_half_precision_inputs() -> None:
    spec = InputSpec("x", (4, 4), "float16")
    [value] = importers.model_inputs([spec], {}, 0)
    assert value.dtype == np.float16
    assert 0.3 < value.std() < 2


def by_uses() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(30, 4)
            self.places = torch.nn.Embedding(20, 4)

        def forward(
            self, ids: torch.Tensor, kept: torch.Tensor, left_out: torch.Tensor, start: torch.Tensor, p: torch.Tensor
        ) -> torch.Tensor:
            x = self.words(ids) + self.places(torch.arange(6) + start)
            scores = x @ x.mT + (1.0 - kept[:, None].float()) * torch.finfo(torch.float32).min
            scores = scores.masked_fill(left_out[:, None], float("-inf"))
            weighted: torch.Tensor = scores.softmax(-1) @ x
            return weighted * p.log()[..., None]

    ones = torch.ones(2, 6, dtype=torch.int64)
    examples = (ones, ones, torch.zeros(2, 6, dtype=torch.bool), torch.zeros(1, dtype=torch.int64), torch.ones(2, 6))
    return Model(), examples


def test_inputs_are_drawn_from_what_the_exported_graph_does_with_them() -> None:
    model = importers.load(f"torch:{__name__}:by_uses", None, {}, "random", 0)
    for one in importers.input_sets(model.inputs, model.model_spec, 0):
        ids, kept, left_out, start, p = one.arrays
        assert 0 <= ids.min() < ids.max() < 30
        assert set(np.unique(kept)) == {0, 1}
        assert (kept[:, 0] == 1).all()
        assert left_out.any()
        assert not left_out[:, 0].any(), "what keeps is False here"
        assert 0 <= start[0] <= 14
        assert p.min() > 0


def test_examples_tell_what_the_graph_does_not() -> None:
    told = by_example(Use(), torch.tensor([3, 7, 5]))
    assert (told.low, told.high) == (0, 7)
    assert by_example(Use(), torch.ones(2, 3, dtype=torch.int64)).levels == (1.0, 0.0)
    assert by_example(Use(0, 99), torch.tensor([3, 7, 5])).high == 99, "the table's, where it is known"
    assert by_example(Use(), torch.tensor([0.0, 0.25, 1.0])).high == 1.0
    assert by_example(Use(), torch.zeros(4)) == Use(), "a placeholder"
    assert by_example(Use(), torch.randn(40)) == Use()
