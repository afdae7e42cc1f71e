"""clBLAST's products as baselines of kernels: its library called on the device's own queue.

Kernels of it are compiled at the first call, which takes seconds with most drivers and minutes with PoCL.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyopencl as cl

from kernels.reference import compare
from kernels.tensors import TensorSpec
from tuner.devices.gpu.runner import GpuError, GpuRunner, Ready
from tuner.devices.opencl.driver import OpenclGpu
from tuner.devices.opencl.kernel import Buffer, OpenclArguments, named
from tuner.protocols import Array, Policy

_ROW_MAJOR, _AS_IT_IS = 101, 111  # of the library's C interface
_SCALARS: Mapping[str, tuple[str, Any, Any, Any]] = {
    "float32": ("S", ctypes.c_float, 1.0, 0.0),
    "float64": ("D", ctypes.c_double, 1.0, 0.0),
    "float16": ("H", ctypes.c_ushort, 0x3C00, 0),
}
"""By dtype: the letter of its routines, the C type of a scalar, one and nought in it."""


@dataclass(frozen=True)
class Product:
    """`batch` products of `(rows, depth)` by `(depth, columns)`, all row-major and without gaps."""

    batch: int
    rows: int
    depth: int
    columns: int

    @classmethod
    def of(cls, origin: Mapping[str, Any]) -> Product | None:
        """The product that a kernel computes before its epilogue; None where it is no product, or its second operand is
        broadcast along some axes of the batch only."""
        if origin.get("op") != "matmul":
            return None
        (*batch, rows, depth), (*same, _, columns) = origin["a"], origin["b"]
        count = int(np.prod(batch, dtype=np.int64))
        if int(np.prod(same, dtype=np.int64)) == 1:
            return cls(1, count * rows, depth, columns)
        return cls(count, rows, depth, columns) if batch == same else None

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of both operands and of what comes out."""
        return (
            (self.batch, self.rows, self.depth),
            (self.batch, self.depth, self.columns),
            (self.batch, self.rows, self.columns),
        )


class PreparedProduct(OpenclArguments):
    """Implements `gpu.runner.GpuPrepared`: one product on fixed inputs. `library` is clBLAST's, loaded."""

    def __init__(
        self, gpu: OpenclGpu, library: ctypes.CDLL, product: Product, dtype: str, inputs: Sequence[Array]
    ) -> None:
        super().__init__(gpu, inputs, [TensorSpec(product.shapes()[2], dtype)])
        self._opened = gpu
        letter, scalar, one, nought = _SCALARS[dtype]
        batched = "" if product.batch == 1 else "StridedBatched"
        self._name = f"CLBlast{letter}gemm{batched}"
        self._call = getattr(library, self._name)
        self._call.restype = ctypes.c_int
        self._product, self._one, self._nought = product, scalar(one), scalar(nought)
        self.copies(1)

    def enqueue(self, copy: int) -> None:
        """Put one call in the queue. Raises GpuError with the library's status where it refuses."""
        self._opened.begin()
        event = ctypes.c_void_p()
        queue = ctypes.c_void_p(self._opened.queue.int_ptr)
        status = self._call(*self._arguments(self._copies[copy]), ctypes.byref(queue), ctypes.byref(event))
        if status:
            raise GpuError(f"{self._name} returns {status}")
        if event.value is not None:
            with named():
                self._opened.record(cl.Event.from_int_ptr(event.value, retain=False))

    def _arguments(self, buffers: Sequence[Buffer]) -> list[Any]:
        product = self._product
        rows, columns, depth = (ctypes.c_size_t(n) for n in (product.rows, product.columns, product.depth))
        first, second, output = (ctypes.c_void_p(buffer.inner.int_ptr) for buffer in buffers)
        start = ctypes.c_size_t(0)

        def matrix(memory: ctypes.c_void_p, row: ctypes.c_size_t, length: int) -> list[Any]:
            one_of_many = [] if product.batch == 1 else [ctypes.c_size_t(length)]
            return [memory, start, row, *one_of_many]

        return [
            *(ctypes.c_int(code) for code in (_ROW_MAJOR, _AS_IT_IS, _AS_IT_IS)), rows, columns, depth, self._one,
            *matrix(first, depth, product.rows * product.depth),
            *matrix(second, columns, product.depth * product.columns), self._nought,
            *matrix(output, columns, product.rows * product.columns),
            *([] if product.batch == 1 else [ctypes.c_size_t(product.batch)]),
        ]  # fmt: skip

    def wrong(self) -> str:
        """What is wrong with the output of the last call on the first copy, with the inputs or the guard bytes; ""
        when nothing."""
        [actual] = self.outputs()
        first, second = (array.astype(np.float64) for array in self._inputs)
        right, _, _, reason = compare(actual, np.matmul(first, second), str(actual.dtype), self._product.depth)
        return self.damage() if right else reason


class ClblastKernels:
    """A child's service: clBLAST's products on the device of a number, timed by the runner of tuned kernels."""

    def __init__(self, device: int, mode: str) -> None:
        found = ctypes.util.find_library("clblast")
        if found is None:
            raise GpuError("clBLAST is not installed")
        self._library = ctypes.CDLL(found)
        self._gpu = OpenclGpu(device)
        self._gpu.choose_clock()
        self._runner = GpuRunner(self._gpu, mode, lambda: None)

    def op_time(self, origin: Mapping[str, Any], dtype: str, policy: Mapping[str, Any]) -> list[float] | None:
        """Samples (seconds); None where clBLAST has no counterpart. Raises GpuError where its output is wrong."""
        product = Product.of(origin)
        if product is None or dtype not in _SCALARS:
            return None
        rng = np.random.default_rng(0)
        inputs = [rng.standard_normal(shape, dtype=np.float32).astype(dtype) for shape in product.shapes()[:2]]
        checked = PreparedProduct(self._gpu, self._library, product, dtype, inputs)
        try:
            checked.enqueue(0)
            self._gpu.synchronize()
            if reason := checked.wrong():
                raise GpuError(f"clBLAST's output is wrong: {reason}")
            samples = self._runner.run(Ready(checked), inputs, Policy.from_json(policy)).samples_s
            if reason := checked.wrong():
                raise GpuError(f"clBLAST's output is wrong after timing: {reason}")
            return list(samples)
        finally:
            checked.free()
