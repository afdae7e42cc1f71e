"""An OpenCL program on fixed inputs: compiled, with buffers between guard bytes, ready to be enqueued."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import pyopencl as cl

from kernels.launch_plan import Launch, LaunchPlan
from kernels.tensors import TensorSpec
from tuner.devices.gpu.copies import ArgumentCopies
from tuner.devices.gpu.runner import GpuError
from tuner.protocols import Array

GUARD_BYTES = 4096
"""Bytes of a known pattern on both sides of each buffer: a multiple of what any device wants sub-buffers aligned to."""

_PATTERN = 0xA5


class Opened(Protocol):
    """What a kernel needs of the device that it runs on."""

    @property
    def context(self) -> Any:
        """Its pyopencl context."""

    @property
    def queue(self) -> Any:
        """Its one in-order queue."""

    def usage(self, kernel: Any, launch: Launch) -> dict[str, int]:
        """What a compiled kernel takes. Raises GpuError for a launch beyond the limits."""

    def launch(self, kernel: Any, launch: Launch) -> None:
        """Enqueue one launch of a kernel whose arguments are set."""

    def poison_local(self) -> None:
        """Enqueue what fills local memory with NaN. Raises cl.Error."""


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Raises GpuError for pyopencl's errors, so that nobody else needs pyopencl to catch them."""
    try:
        yield
    except cl.Error as error:
        raise GpuError(reason_of(str(error)) or type(error).__name__) from error


def reason_of(message: str) -> str:
    """The first error that a build log names, or the first line of another message; at most 300 characters."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    named = next((line for line in lines if "error:" in line.lower()), None)
    return (named or next(iter(lines), ""))[:300]


def built(context: Any, source: str) -> Any:
    """Compile. Raises cl.Error with the build log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pyopencl, about compilers that say something
        return cl.Program(context, source).build()


def kernel_of(program: Any, launch: Launch) -> Any:
    """The compiled kernel of a launch. Raises GpuError where the program has none of its name."""
    try:
        return cl.Kernel(program, launch.kernel)
    except cl.LogicError as error:
        raise GpuError(f"the program has no kernel {launch.kernel}") from error


class Buffer:
    """Device memory between guard bytes."""

    def __init__(self, gpu: Opened, nbytes: int, content: Array | None) -> None:
        self._queue = gpu.queue
        self.nbytes = nbytes
        self._tail = -(-max(nbytes, 1) // 256) * 256 - nbytes + GUARD_BYTES
        whole = np.full(GUARD_BYTES + nbytes + self._tail, _PATTERN, np.uint8)
        if content is not None:
            whole[GUARD_BYTES : GUARD_BYTES + nbytes] = np.frombuffer(content.tobytes(), np.uint8)
        self._memory = cl.Buffer(gpu.context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=whole)
        self.inner = self._memory.get_sub_region(GUARD_BYTES, max(nbytes, 1))

    def read(self, spec: TensorSpec) -> Array:
        """Copy to the host."""
        host = np.empty(spec.shape, dtype=spec.dtype)
        if host.nbytes:
            cl.enqueue_copy(self._queue, host, self._memory, src_offset=GUARD_BYTES)
        return host

    def guards_hold(self) -> bool:
        """Whether the guard bytes are unchanged."""
        before, after = np.empty(GUARD_BYTES, np.uint8), np.empty(self._tail, np.uint8)
        cl.enqueue_copy(self._queue, before, self._memory)
        cl.enqueue_copy(self._queue, after, self._memory, src_offset=GUARD_BYTES + self.nbytes)
        return bool((before == _PATTERN).all() and (after == _PATTERN).all())

    def free(self) -> None:
        with contextlib.suppress(cl.Error):
            self.inner.release()
            self._memory.release()


class OpenclArguments(ArgumentCopies[Buffer]):
    """`ArgumentCopies` on an OpenCL device."""

    def __init__(
        self, gpu: Opened, inputs: Sequence[Array], outputs: Sequence[TensorSpec], workspaces: Sequence[int] = ()
    ) -> None:
        super().__init__(inputs, outputs, workspaces)
        self._gpu = gpu

    def _buffer(self, nbytes: int, content: Array | None) -> Buffer:
        return Buffer(self._gpu, nbytes, content)

    def _named(self) -> AbstractContextManager[None]:
        return named()


class OpenclKernel(OpenclArguments):
    """Implements `gpu.kernel_service.GpuKernel`: a plan's launches on one or more copies of its arguments."""

    def __init__(
        self, gpu: Opened, source: str, plan: LaunchPlan, inputs: Sequence[Array], outputs: Sequence[TensorSpec]
    ) -> None:
        if any(launch.dynamic_shared_bytes or launch.cooperative or launch.cluster != (1, 1, 1)
               for launch in plan.launches):  # fmt: skip
            raise GpuError("its plan wants what OpenCL has not: clusters, a cooperative launch or dynamic local memory")
        super().__init__(gpu, inputs, outputs, plan.workspaces)
        self._plan = plan
        self._program = built(gpu.context, source)
        self._ready: list[list[tuple[Any, Launch]]] = []
        self.copies(1)
        gpu.poison_local()

    def _copied(self, buffers: Sequence[Buffer]) -> None:
        ready = []
        for launch in self._plan.launches:
            kernel = kernel_of(self._program, launch)
            self._gpu.usage(kernel, launch)
            kernel.set_args(*[buffers[slot].inner for slot in launch.args])
            ready.append((kernel, launch))
        self._ready.append(ready)

    def enqueue(self, copy: int) -> None:
        """Put one call in the queue, on the given copy of the arguments."""
        try:  # not `named`, whose context manager would cost the host a microsecond a call
            for kernel, launch in self._ready[copy]:
                self._gpu.launch(kernel, launch)
        except cl.Error as error:
            raise GpuError(reason_of(str(error)) or type(error).__name__) from error

    def free(self) -> None:
        super().free()
        self._ready.clear()
