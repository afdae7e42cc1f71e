"""OpenCL devices through pyopencl: memory, programs, launches, events. It knows no rules.

Everything of one device is in one in-order queue with profiling.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyopencl as cl

from kernels.launch_plan import MAX_SHARED, Launch, LaunchPlan
from kernels.tensors import TensorSpec
from tuner import environment
from tuner.devices.gpu.runner import GpuError, Timing
from tuner.devices.opencl.facts import Facts
from tuner.devices.opencl.kernel import OpenclKernel, built, kernel_of, named
from tuner.protocols import Array

_OWN_KERNELS = """
__kernel void tuner_check(__global uint* values, uint rounds)
{
    uint i = get_global_id(0), v = values[i];
    for (uint round = 0; round < rounds; ++round) v = v * 3u + i;
    values[i] = v;
}
"""
_POISON = """
__kernel void tuner_poison(__global uint* unused)
{
    volatile __local uint words[WORDS];
    for (uint i = get_local_id(0); i < WORDS; i += get_local_size(0)) words[i] = 0x7fc0deadu;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (words[get_local_id(0)] == 1u) unused[0] = 1u;
}
"""
"""Leaves NaN in local memory: what a kernel finds there must not be what the last one had staged, or a missing barrier
may go unseen."""

_POISONED_GROUPS = 4  # for each compute unit: every one of them should have one
_CHECK_THREADS = 256
_USUAL_MULTIPLE = 32
_CLOCK_S = 5e-3
"""How long the kernel is by which the two clocks are compared."""

_CLOCK_SHARE = (0.5, 1.05)
"""Between which shares of the wall time the profiling clock must find that kernel. Outside of them it is not used."""

_CLOCK_SLACK_S = 50e-6


def devices() -> list[Facts]:
    """Every device of this machine, in the order of its platforms. Raises GpuError where no driver answers."""
    with named():
        return [_facts(device, number) for number, device in enumerate(_all_devices())]


def _all_devices() -> list[Any]:
    found: list[Any] = []
    try:
        platforms = cl.get_platforms()
    except cl.LogicError as error:
        if error.code == cl.status_code.PLATFORM_NOT_FOUND_KHR:
            return found
        raise
    for platform in platforms:
        with contextlib.suppress(cl.Error):  # a platform without devices says so by an error
            found += platform.get_devices()
    return found


def _facts(device: Any, number: int) -> Facts:
    is_cpu = bool(device.type & cl.device_type.CPU)
    try:
        multiple = int(device.preferred_work_group_size_multiple)
    except (cl.Error, AttributeError):  # before OpenCL 3.0
        multiple = _USUAL_MULTIPLE
    return Facts(
        platform=device.platform.name.strip(),
        name=device.name.strip(),
        number=number,
        version=device.driver_version.strip(),
        processor=environment.cpu_model() if is_cpu else "",
        compute_units=int(device.max_compute_units),
        max_threads=int(device.max_work_group_size),
        local_bytes=int(device.local_mem_size),
        global_bytes=int(device.global_mem_size),
        cache_bytes=int(device.global_mem_cache_size),
        preferred_multiple=multiple,
        alignment=int(device.mem_base_addr_align) // 8,
        extensions=tuple(sorted(device.extensions.split())),
    )


class OpenclGpu:
    """One device with a context and a queue. Implements `gpu.kernel_service.DrivenGpu`. Methods raise GpuError.

    `clock` is "events" where the profiling clock agrees with the wall clock, else "wall": then times are wall times.
    """

    peak_bytes_per_s = 0.0

    def __init__(self, number: int) -> None:
        with named():
            found = _all_devices()
            if number >= len(found):
                raise GpuError(f"OpenCL device {number} is gone: there are {len(found)}")
            self._device = found[number]
            self.facts = _facts(self._device, number)
            self._context = cl.Context([self._device])
            self._queue = cl.CommandQueue(self._context, properties=cl.command_queue_properties.PROFILING_ENABLE)
            self.l2_bytes = self.facts.cache_bytes
            self._flush_buffer: Any = None
            self._flushes = 0
            self._gate: Any = None
            self._events: list[Any] = []
            self._recording = False
            self._checks: Any = None
            self._poison: Any = None
            self._unused: Any = None
            self.clock = "wall"

    def choose_clock(self) -> None:
        """Compare the clock of profiling events with the wall clock, and use it where it agrees."""
        with named():
            values, rounds = self._buffer_of(np.zeros(_CHECK_THREADS, np.uint32)), 1 << 10
            self._run_check(values, 1)  # the first call may still compile
            while True:
                began = time.perf_counter()
                event = self._run_check(values, rounds)
                wall_s = time.perf_counter() - began
                if wall_s >= _CLOCK_S or rounds >= 1 << 30:
                    break
                rounds *= 4
            share = 1e-9 * (event.profile.end - event.profile.start) / wall_s
            self.clock = "events" if _CLOCK_SHARE[0] <= share <= _CLOCK_SHARE[1] else "wall"

    # --- what a runner needs -----------------------------------------------------------------------

    def flush(self) -> None:
        """Enqueue a write of twice the cache, each time of another value."""
        self._flushes += 1
        with named():
            if self._flush_buffer is None:
                self._flush_buffer = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, max(2 * self.l2_bytes, 4096))
            value = np.full(1, self._flushes & 0xFF, np.uint8)
            cl.enqueue_fill_buffer(self._queue, self._flush_buffer, value, 0, self._flush_buffer.size)

    def hold(self, seconds: float) -> None:
        """Let nothing that is enqueued from now on begin until `time` has enqueued all of it, however long that is."""
        with named():
            self._gate = cl.UserEvent(self._context)
            cl.enqueue_barrier(self._queue, wait_for=[self._gate])

    def time(self, work: Callable[[], None]) -> Timing:
        """Enqueue `work`, and wait: from the begin of its first launch to the end of its last one. The host is never
        late, since nothing begins before all is enqueued."""
        if self._gate is None:
            self.hold(0.0)
        self._events, self._recording = [], True
        try:
            with named():
                try:
                    work()
                    self._queue.flush()
                finally:
                    self._recording, gate, self._gate = False, self._gate, None
                    began = time.perf_counter()
                    gate.set_status(cl.command_execution_status.COMPLETE)
                self._queue.finish()
                wall_s = time.perf_counter() - began
                return Timing(self._span_s(wall_s), 0.0)
        finally:
            self._events = []

    def _span_s(self, wall_s: float) -> float:
        if self.clock == "wall" or not self._events:
            return wall_s
        span_s = 1e-9 * float(self._events[-1].profile.end - self._events[0].profile.start)
        if not 0.0 <= span_s <= _CLOCK_SHARE[1] * wall_s + _CLOCK_SLACK_S:
            raise GpuError(f"profiling events say {span_s:.3g} s, the wall clock {wall_s:.3g} s")
        return span_s

    def synchronize(self) -> None:
        with named():
            self._queue.finish()

    def free_bytes(self) -> int:
        """Half of the device's memory: OpenCL does not tell what is free."""
        return self.facts.global_bytes // 2

    def healthy(self) -> bool:
        """The health check: whether the context still runs a kernel and gets its outputs right."""
        values = np.arange(_CHECK_THREADS, dtype=np.uint32) * np.uint32(2654435761)
        expected = values * np.uint32(3) + np.arange(_CHECK_THREADS, dtype=np.uint32)
        outputs = np.zeros_like(values)
        try:
            with named():
                buffer = self._buffer_of(values)
                self._run_check(buffer, 1)
                cl.enqueue_copy(self._queue, outputs, buffer)
        except GpuError:
            return False
        return bool(np.array_equal(outputs, expected))

    def poison_local(self) -> None:
        """Enqueue what fills the local memory of every compute unit with NaN. Raises cl.Error."""
        if self._poison is None:
            words = min(self.facts.local_bytes, MAX_SHARED) // 4
            self._poison = cl.Kernel(built(self._context, f"#define WORDS {words}\n{_POISON}"), "tuner_poison")
            self._unused = self._buffer_of(np.zeros(1, np.uint32))  # a kernel does not keep its arguments alive
            self._poison.set_args(self._unused)
        groups = _POISONED_GROUPS * self.facts.compute_units
        cl.enqueue_nd_range_kernel(self._queue, self._poison, (64 * groups,), (64,))

    def _run_check(self, buffer: Any, rounds: int) -> Any:
        if self._checks is None:
            self._checks = cl.Kernel(built(self._context, _OWN_KERNELS), "tuner_check")
        self._checks.set_args(buffer, np.uint32(rounds))
        event = cl.enqueue_nd_range_kernel(self._queue, self._checks, (_CHECK_THREADS,), (64,))
        event.wait()
        return event

    def _buffer_of(self, array: Array) -> Any:
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        return cl.Buffer(self._context, flags, hostbuf=np.ascontiguousarray(array))

    # --- kernels -------------------------------------------------------------------------------------

    def compiled(self, source: str, plan: LaunchPlan) -> dict[str, dict[str, int]]:
        """Compile a program for this device and see that its launches are possible: what each of its kernels takes.

        Raises GpuError with the first error of the build log, or with the limit that a launch exceeds.
        """
        with named():
            program = built(self._context, source)
            return {launch.kernel: self.usage(kernel_of(program, launch), launch) for launch in plan.launches}

    def usage(self, kernel: Any, launch: Launch) -> dict[str, int]:
        """What a compiled kernel takes. Raises GpuError for a launch beyond the kernel's or the device's limits, which
        not every driver refuses by itself."""
        info, device = cl.kernel_work_group_info, self._device
        most = int(kernel.get_work_group_info(info.WORK_GROUP_SIZE, device))
        local = int(kernel.get_work_group_info(info.LOCAL_MEM_SIZE, device))
        if launch.threads > most:
            raise GpuError(
                f"{launch.kernel} is launched with {launch.threads} work items a group; compiled, it may have {most}"
            )
        if max(local, launch.shared_bytes) > self.facts.local_bytes:
            raise GpuError(f"{launch.kernel} needs {max(local, launch.shared_bytes)} bytes of local memory, the device "
                           f"has {self.facts.local_bytes}")  # fmt: skip
        private = int(kernel.get_work_group_info(info.PRIVATE_MEM_SIZE, device))
        return {"work_group_size": most, "local_bytes": local, "private_bytes": private}

    def kernel(
        self, compiled: bytes, plan: LaunchPlan, inputs: Sequence[Array], outputs: Sequence[TensorSpec]
    ) -> OpenclKernel:
        """A program on fixed inputs, compiled and ready to be enqueued; its outputs hold NaN."""
        with named():
            return OpenclKernel(self, compiled.decode(errors="replace"), plan, inputs, outputs)

    def launch(self, kernel: Any, launch: Launch) -> None:
        """Enqueue one launch of a kernel whose arguments are set."""
        size = tuple(grid * block for grid, block in zip(launch.grid, launch.block, strict=True))
        self.record(cl.enqueue_nd_range_kernel(self._queue, kernel, size, launch.block))

    def begin(self) -> None:
        """Let the time that is being taken begin here: for launches of a library that tells the event of its last one
        only. Raises GpuError."""
        if self._recording and not self._events:
            with named():
                self._events = [cl.enqueue_marker(self._queue)]

    def record(self, event: Any) -> None:
        """Let the time that is being taken end with this event."""
        if self._recording:
            self._events[1:] = [event]  # the first and the last

    @property
    def context(self) -> Any:
        return self._context

    @property
    def queue(self) -> Any:
        return self._queue

    @property
    def device(self) -> Any:
        return self._device
