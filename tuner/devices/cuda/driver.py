"""One GPU through PyCUDA: memory, modules, launches, events. The only place that imports it; it knows no rules.

Everything happens on the legacy default stream of the device's primary context, which is the one that PyTorch and the
CUDA runtime use too: work of both is in order, and their pointers are the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycuda.driver as cuda

from kernels.launch_plan import Launch, LaunchPlan
from kernels.tensors import TensorSpec
from tuner.devices.gpu.copies import ArgumentCopies
from tuner.devices.gpu.runner import GpuError, Timing
from tuner.protocols import Array

GUARD_BYTES = 4096
"""Bytes of a known pattern on both sides of each buffer; also keeps buffers aligned beyond any vector access."""

_PATTERN = 0xA5
_STATIC_SHARED_BYTES = 48 << 10  # more than this a kernel must ask for (CUDA C++ Programming Guide, 20.7.3)

# Assembled by the driver for the GPU at hand, so that a host without a CUDA toolkit has them too.
_OWN_KERNELS = b"""
.version 6.3
.target sm_70
.address_size 64

.visible .entry tuner_hold(.param .u64 nanoseconds)
{
    .reg .u64 %limit, %begin, %now;
    .reg .pred %more;
    ld.param.u64 %limit, [nanoseconds];
    mov.u64 %begin, %globaltimer;
again:
    mov.u64 %now, %globaltimer;
    sub.u64 %now, %now, %begin;
    setp.lt.u64 %more, %now, %limit;
    @%more bra again;
    ret;
}

.visible .entry tuner_health(.param .u64 values)
{
    .reg .u64 %p, %o;
    .reg .u32 %i, %v;
    ld.param.u64 %p, [values];
    cvta.to.global.u64 %p, %p;
    mov.u32 %i, %tid.x;
    mul.wide.u32 %o, %i, 4;
    add.u64 %p, %p, %o;
    ld.global.u32 %v, [%p];
    mad.lo.u32 %v, %v, 3, %i;
    st.global.u32 [%p], %v;
    ret;
}
"""
_HEALTH_THREADS = 256


_ERRORS = (cuda.Error, cuda.MemoryError, cuda.LogicError, cuda.LaunchError, cuda.RuntimeError)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Raises GpuError for PyCUDA's errors, so that nobody else needs PyCUDA to catch them."""
    try:
        yield
    except _ERRORS as error:
        raise GpuError(str(error) or type(error).__name__) from error


def count() -> int:
    """How many GPUs the driver offers. Raises GpuError without a driver that works."""
    with _named():
        cuda.init()
        return int(cuda.Device.count())


class CudaGpu:
    """A device, its primary context current in this thread. Implements `runner.Gpu`. Methods raise GpuError."""

    def __init__(self, number: int) -> None:
        with _named():
            cuda.init()
            self._device = cuda.Device(number)
            self._context = self._device.retain_primary_context()
            self._context.push()
            attribute, names = self._device.get_attribute, cuda.device_attribute
            self.name = str(self._device.name())
            major, minor = self._device.compute_capability()
            self.arch = f"sm_{major}{minor}"
            self.bus_id = str(self._device.pci_bus_id())
            self.driver = int(cuda.get_driver_version())
            self.l2_bytes = int(attribute(names.L2_CACHE_SIZE))
            khz, bits = attribute(names.MEMORY_CLOCK_RATE), attribute(names.GLOBAL_MEMORY_BUS_WIDTH)
            self.peak_bytes_per_s = 2e3 * khz * bits / 8  # double data rate; 0 where the driver does not tell
            self._flush_buffer = cuda.mem_alloc(2 * self.l2_bytes)
            self._flushes = 0
            self._begin, self._end = cuda.Event(), cuda.Event()
            own = cuda.module_from_buffer(_OWN_KERNELS)
            self._hold = own.get_function("tuner_hold").prepare("P")
            self._health_kernel = own.get_function("tuner_health").prepare("P")
            self._own = own

    def close(self) -> None:
        """Give everything back. Errors are ignored: the context may be broken."""
        with contextlib.suppress(*_ERRORS):
            self._flush_buffer.free()
            self._context.pop()
            self._context.detach()

    # --- what a runner needs -----------------------------------------------------------------------

    def flush(self) -> None:
        """Enqueue a write of twice the L2, each time of another value."""
        self._flushes += 1
        with _named():
            cuda.memset_d8_async(self._flush_buffer, self._flushes & 0xFF, 2 * self.l2_bytes, None)

    def hold(self, seconds: float) -> None:
        """Enqueue a kernel of one thread that ends after `seconds`: meanwhile the host fills the stream behind it."""
        with _named():
            self._hold.prepared_async_call((1, 1), (1, 1, 1), None, int(seconds * 1e9))

    def time(self, work: Callable[[], None]) -> Timing:
        """Enqueue `work` between two events, and wait: what the device took, and what the host took to enqueue it."""
        with _named():
            began = time.perf_counter()
            self._begin.record()
            work()
            self._end.record()
            host_s = time.perf_counter() - began
            self._end.synchronize()
            return Timing(1e-3 * float(self._end.time_since(self._begin)), host_s)

    def synchronize(self) -> None:
        with _named():
            cuda.Context.synchronize()

    def free_bytes(self) -> int:
        with _named():
            return int(cuda.mem_get_info()[0])

    def healthy(self) -> bool:
        """The health check: whether the context still runs a kernel and gets its outputs right."""
        values = np.arange(_HEALTH_THREADS, dtype=np.uint32) * np.uint32(2654435761)
        expected = values * np.uint32(3) + np.arange(_HEALTH_THREADS, dtype=np.uint32)
        outputs = np.zeros_like(values)
        try:
            with _named():
                buffer = cuda.mem_alloc(values.nbytes)
                cuda.memcpy_htod(buffer, values)
                self._health_kernel.prepared_async_call((1, 1), (_HEALTH_THREADS, 1, 1), None, int(buffer))
                cuda.memcpy_dtoh(outputs, buffer)
                buffer.free()
        except GpuError:
            return False
        return bool(np.array_equal(outputs, expected))

    # --- kernels -------------------------------------------------------------------------------------

    def kernel(
        self, cubin: bytes, plan: LaunchPlan, inputs: Sequence[Array], outputs: Sequence[TensorSpec]
    ) -> CudaKernel:
        """A compiled program on fixed inputs, ready to be enqueued; its outputs hold NaN."""
        with _named():
            return CudaKernel(cubin, plan, inputs, outputs)


class _Buffer:
    """Device memory between guard bytes."""

    def __init__(self, nbytes: int, content: Array | None) -> None:
        self.nbytes = nbytes
        padded = -(-max(nbytes, 1) // 256) * 256
        self._tail = padded - nbytes + GUARD_BYTES
        self._memory = cuda.mem_alloc(padded + 2 * GUARD_BYTES)
        self.pointer = int(self._memory) + GUARD_BYTES
        cuda.memset_d8(int(self._memory), _PATTERN, GUARD_BYTES)
        cuda.memset_d8(self.pointer + nbytes, _PATTERN, self._tail)
        if content is not None:
            cuda.memcpy_htod(self.pointer, np.ascontiguousarray(content))

    def read(self, spec: TensorSpec) -> Array:
        """Copy to the host."""
        host = np.empty(spec.shape, dtype=spec.dtype)
        cuda.memcpy_dtoh(host, self.pointer)
        return host

    def guards_hold(self) -> bool:
        """Whether the guard bytes are unchanged."""
        before, after = np.empty(GUARD_BYTES, np.uint8), np.empty(self._tail, np.uint8)
        cuda.memcpy_dtoh(before, int(self._memory))
        cuda.memcpy_dtoh(after, self.pointer + self.nbytes)
        return bool((before == _PATTERN).all() and (after == _PATTERN).all())

    def free(self) -> None:
        with contextlib.suppress(*_ERRORS):
            self._memory.free()


@dataclass(frozen=True)
class _Launch:
    """A launch that is ready: `args` are the numbers of the buffers that the function is given."""

    function: Any
    args: tuple[int, ...]
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int


class CudaKernel(ArgumentCopies[_Buffer]):
    """Implements `gpu.kernel_service.GpuKernel`: a plan's launches on one or more copies of its arguments."""

    def __init__(self, cubin: bytes, plan: LaunchPlan, inputs: Sequence[Array], outputs: Sequence[TensorSpec]) -> None:
        super().__init__(inputs, outputs, plan.workspaces)
        self._module = cuda.module_from_buffer(cubin)
        self._launches = [self._ready(launch) for launch in plan.launches]
        self.copies(1)

    def _buffer(self, nbytes: int, content: Array | None) -> _Buffer:
        return _Buffer(nbytes, content)

    def _named(self) -> AbstractContextManager[None]:
        return _named()

    def enqueue(self, copy: int) -> None:
        """Put one call on the stream, on the given copy of the arguments."""
        buffers = self._copies[copy]
        try:  # not `_named`, whose context manager would cost the host a microsecond a call
            for launch in self._launches:
                pointers = [buffers[slot].pointer for slot in launch.args]
                launch.function.prepared_async_call(
                    launch.grid, launch.block, None, *pointers, shared_size=launch.shared_bytes
                )
        except _ERRORS as error:
            raise GpuError(str(error) or type(error).__name__) from error

    def _ready(self, launch: Launch) -> _Launch:
        if launch.cluster != (1, 1, 1) or launch.cooperative:
            raise GpuError(f"{launch.kernel} wants a launch with clusters or a cooperative one, which PyCUDA has not")
        function = self._module.get_function(launch.kernel)
        if launch.shared_bytes > _STATIC_SHARED_BYTES:
            limit = cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            function.set_attribute(limit, launch.dynamic_shared_bytes)
        function.prepare("P" * len(launch.args))
        return _Launch(function, launch.args, launch.grid, launch.block, launch.dynamic_shared_bytes)
