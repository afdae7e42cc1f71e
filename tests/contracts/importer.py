"""What every importer must do. A test module subclasses the suite and gives it a `source` fixture."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest
import torch

from tests.tuner.importers.graphs import Value, by_onnxruntime, close
from tuner import importers
from tuner.models import ImportedModel


class ImporterContract:
    """Batch 2 and random weights throughout."""

    @pytest.fixture
    def source(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def model(self, source: str) -> ImportedModel:
        return importers.load(source, 2, {}, "random", 5)

    def test_main_takes_the_inputs_and_nothing_else(self, model: ImportedModel) -> None:
        main = model.module["main"]
        assert len(main.params) == len(model.inputs) > 0
        for parameter, spec in zip(main.params, model.inputs, strict=True):
            assert tuple(int(extent) for extent in parameter.ty.shape) == spec.shape
            assert str(parameter.ty.dtype) == spec.dtype
            assert spec.shape[0] == 2

    def test_the_model_spec_makes_the_same_model_each_time(self, model: ImportedModel) -> None:
        model_spec = json.loads(json.dumps(model.model_spec))
        assert model_spec == model.model_spec
        inputs = importers.model_inputs(model.inputs, model_spec, 1)
        first, second = _by_torch(model_spec, inputs), _by_torch(model_spec, inputs)
        assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
        other_seed = _by_torch({**model_spec, "seed": 6}, inputs)
        assert not np.allclose(first[0], other_seed[0])

    def test_relax_torch_and_onnxruntime_agree(self, model: ImportedModel) -> None:
        import tvm
        from tvm import relax

        inputs = importers.model_inputs(model.inputs, model.model_spec, 1)
        expected = by_onnxruntime(importers.onnx_bytes(model.model_spec), inputs)
        close(_by_torch(model.model_spec, inputs), expected, 1e-4)
        machine = relax.VirtualMachine(tvm.compile(model.module, "llvm"), tvm.cpu())
        result = machine["main"](*map(tvm.runtime.tensor, inputs))
        close([output.numpy() for output in (result if len(expected) > 1 else [result])], expected, 1e-4)

    def test_onnx_keeps_the_names_and_order_of_the_inputs(self, model: ImportedModel) -> None:
        exported = importers.onnx_bytes(model.model_spec).SerializeToString()
        session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        assert [value.name for value in session.get_inputs()] == [spec.name for spec in model.inputs]


def _by_torch(model_spec: importers.ModelSpec, inputs: Sequence[Value]) -> list[Value]:
    module, _ = importers.torch_module(model_spec)
    with torch.inference_mode():
        result = module(*map(torch.from_numpy, inputs))
    return [output.numpy() for output in ((result,) if isinstance(result, torch.Tensor) else result)]
