"""clBLAST's products as baselines. Its own kernels run in experiments/opencl/clblast.py: PoCL takes minutes to compile
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tuner.devices.opencl.hand_written import pocl, pocl_target
from tests.tuner.devices.test_builder import matmul
from tuner.config import MeasureConfig
from tuner.devices.device import BaselineTiming, Opening
from tuner.devices.opencl import OPENCL
from tuner.devices.opencl.device import Opencl
from tuner.progress import Progress
from tuner.protocols import Task

pytest.importorskip("pyopencl", reason="needs pyopencl and pocl-binary-distribution")

from tuner.devices.gpu.runner import GpuError
from tuner.devices.opencl.clblast import PreparedProduct, Product
from tuner.devices.opencl.driver import OpenclGpu

ODD = Product(1, 3, 5, 7)


@pytest.mark.parametrize(
    ("a", "b", "product"),
    [
        ([3, 5], [5, 7], ODD),
        ([2, 4, 3, 5], [2, 4, 5, 7], Product(8, 3, 5, 7)),
        ([2, 4, 3, 5], [5, 7], Product(1, 24, 5, 7)),
        ([2, 4, 3, 5], [1, 1, 5, 7], Product(1, 24, 5, 7)),
        ([2, 4, 3, 5], [4, 5, 7], None),
        ([1, 3, 5], [4, 5, 7], None),
    ],
)
def test_a_product_is_the_one_of_the_kernel(a: list[int], b: list[int], product: Product | None) -> None:
    made = Product.of({"op": "matmul", "a": a, "b": b})
    assert made == product
    if made is not None:
        first, second, output = made.shapes()
        assert np.prod(output) == np.prod(np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2]))) * a[-2] * b[-1]
        assert (np.prod(first), np.prod(second)) == (np.prod(a), np.prod(b))


def test_a_convolution_has_no_counterpart() -> None:
    assert Product.of({"op": "conv2d", "data": [1, 3, 8, 8], "weight": [4, 3, 3, 3]}) is None


@pytest.fixture(scope="module")
def gpu() -> OpenclGpu:
    return OpenclGpu(pocl().number)


def prepared(gpu: OpenclGpu, routine: Callable[..., int]) -> PreparedProduct:
    library: Any = SimpleNamespace(CLBlastSgemm=routine)
    inputs = [np.ones(shape, np.float32) for shape in ODD.shapes()[:2]]
    return PreparedProduct(gpu, library, ODD, "float32", inputs)


def test_an_output_that_was_not_written_is_wrong(gpu: OpenclGpu) -> None:
    product = prepared(gpu, lambda *arguments: 0)
    product.enqueue(0)
    gpu.synchronize()
    assert "not finite" in product.wrong()
    product.free()


def test_a_status_is_an_error(gpu: OpenclGpu) -> None:
    product = prepared(gpu, lambda *arguments: -2046)
    with pytest.raises(GpuError, match="CLBlastSgemm returns -2046"):
        product.enqueue(0)
    product.free()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Opencl]:
    made = Opencl(Opening(pocl_target(), MeasureConfig(), 1, tmp_path, tmp_path, Progress()), OPENCL)
    yield made
    made.close()


def test_without_the_library_nothing_is_said(device: Opencl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    notes: list[str] = []
    timing = BaselineTiming(1.0, lambda: False, notes.append)
    origin = {"op": "matmul", "a": [64, 64], "b": [64, 64], "epilogue": []}
    task = Task(replace(matmul(), origin=origin), pocl_target().text)
    assert device.kernel_baselines([task], timing) == {}
    assert notes == []
