"""PyTorch models: relax, torch and ONNX Runtime must give the same outputs; wrong sources one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contracts.importer import ImporterContract
from tuner import importers
from tuner.errors import ModelError
from tuner.protocols import InputSpec

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
    assert ids.max() < 46, "the example's largest id is 45"
    assert (mask == 1).all()


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
