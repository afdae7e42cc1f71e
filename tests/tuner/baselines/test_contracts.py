"""Every baseline, and PyTorch's single operators, in the suites that every implementation passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from tests.contracts.baseline import BaselineContract
from tests.contracts.launchable import LaunchableContract
from tests.tuner.baselines import models
from tests.tuner.baselines.test_kernels import MATMUL
from tuner.baselines import BASELINES, FROM_ONNX
from tuner.baselines.kernels import OperatorCall, operand_shapes
from tuner.protocols import Array, Baseline, Launchable

MODEL_SPEC = {"seed": 3}
SLOW = {name: [pytest.mark.slow] for name in ("torch_compile", "torch_compile_bf16", "torch_max_autotune")}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile uses it itself
class TestWholeModels(BaselineContract):
    """A convolution with relu, and twice that."""

    @pytest.fixture(scope="class", params=[pytest.param(name, marks=SLOW.get(name, [])) for name in BASELINES])
    @classmethod
    def baseline(cls, request: pytest.FixtureRequest) -> Iterator[Baseline]:
        source: Any = models.onnx_model if request.param in FROM_ONNX else models.torch_module
        made = BASELINES[request.param](source)
        assert made.name == request.param
        with pytest.MonkeyPatch.context() as patch:
            # How many threads a process has can be said once, and this process is not the baseline's own.
            patch.setattr("tuner.baselines.torch.use_threads", lambda threads: None)
            yield made

    @pytest.fixture(autouse=True)
    def _by_precision(self, baseline: Baseline) -> None:
        self.rtol = 2e-2 if baseline.name.endswith("_bf16") else LaunchableContract.rtol

    @pytest.fixture(scope="class")
    @classmethod
    def model_spec(cls) -> Mapping[str, Any]:
        return MODEL_SPEC

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls) -> list[Array]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal((1, 3, 16, 16), dtype=np.float32), rng.standard_normal(1, dtype=np.float32)]

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, inputs: list[Array]) -> list[Array]:
        out = models.reference(MODEL_SPEC, *inputs)
        return [out, 2 * out]


class TestOperator(LaunchableContract):
    """A matrix product with a bias and relu."""

    origin: Mapping[str, Any] = MATMUL | {"epilogue": ["add", "relu"]}

    @pytest.fixture(scope="class")
    @classmethod
    def launchable(cls) -> Launchable:
        return OperatorCall("torch", cls.origin)

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls) -> list[Array]:
        rng = np.random.default_rng(1)
        return [rng.standard_normal(shape, dtype=np.float32) for shape in operand_shapes(cls.origin) or []]

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, inputs: list[Array]) -> list[Array]:
        a, b, bias = (array.astype(np.float64) for array in inputs)
        return [np.maximum(a @ b + bias, 0.0)]
