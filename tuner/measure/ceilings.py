"""What this machine can do at most: fp32 arithmetic and memory traffic, measured, for the roofline and the floor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tuner.measure.cpu import last_level_cache_bytes

PLAUSIBLE = 0.95
"""A time under this share of the physical floor is suspect: the ceilings carry a few per cent of noise themselves."""

_ACCUMULATORS = 12  # covers a fused multiply-add's latency (4 cycles x 2 ports) and fits 16 vector registers
_STEPS = 400_000  # one or two milliseconds
_LANES = (4, 8, 16)  # SSE and NEON, AVX, AVX-512: which is best is found by trying
_MATMULS = ((1024, 1024, 1024), (2048, 2048, 2048), (512, 2048, 1024))

# Accumulators stay in registers: nothing but arithmetic is left in the inner loop.
_PROBE = """
@T.prim_func(s_tir=True)
def main(x: T.Buffer((2,), "float32"), out: T.Buffer(({tasks}, {width}), "float32")):
    T.func_attr({{"tirx.noalias": True}})
    for t in T.parallel({tasks}):
        acc = T.alloc_buffer(({width},), "float32", scope="local")
        for u in T.unroll({accumulators}):
            for v in T.vectorized({lanes}):
                acc[u * {lanes} + v] = x[0]
        for r in range({steps}):
            for u in T.unroll({accumulators}):
                for v in T.vectorized({lanes}):
                    acc[u * {lanes} + v] = acc[u * {lanes} + v] * x[0] + x[1]
        for u in T.unroll({accumulators}):
            for v in T.vectorized({lanes}):
                out[t, u * {lanes} + v] = acc[u * {lanes} + v]
"""


def physical_floor_s(flops: float, least_bytes: int, ceilings: Mapping[str, Any]) -> float:
    """The least seconds that a kernel can take: max(flops / peak, bytes / bandwidth).

    Only the bytes that cannot have stayed in the last-level cache count: in hot mode the others are there already.
    """
    arithmetic = flops / float(ceilings["peak_flops_per_s"])
    from_memory = max(0, least_bytes - int(ceilings["cache_bytes"]))
    return max(arithmetic, from_memory / float(ceilings["bandwidth_bytes_per_s"]))


class Ceilings:
    """A child's service, started with `thread_env(threads)`. It pins itself: its child is for nothing else."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def op_measure(self) -> dict[str, Any]:
        """`{peak_flops_per_s, bandwidth_bytes_per_s, cache_bytes, method}`; about three seconds on an idle machine."""
        cpus = sorted(os.sched_getaffinity(0))
        if self._threads < len(cpus):  # numpy's thread count was fixed when it was imported; the CPUs are not
            os.sched_setaffinity(0, cpus[: self._threads])
        # On a busy machine all threads are seldom free at once, but one is for a millisecond: a ceiling that is too
        # low would call honest kernels impossible, one that is a little too high only judges less.
        alone = {"multiply-adds in registers, one thread times threads": self._threads * fma_rate(1)}
        rates = alone | {"multiply-adds in registers": fma_rate(self._threads), "numpy matmul": matmul_rate()}
        best = max(rates, key=lambda name: rates[name])
        bandwidth, how = memory_rate(self._threads)
        return {
            "peak_flops_per_s": rates[best],
            "bandwidth_bytes_per_s": bandwidth,
            "cache_bytes": last_level_cache_bytes(),
            "method": f"{best} and {how}, best of repeats, {self._threads} threads",
        }


def fma_rate(threads: int) -> float:
    """Flops per second of multiply-adds that never leave the registers, on `threads` of TVM's threads."""
    import tvm.script
    from tvm.target import Target

    target = Target.from_device("cpu")
    x = tvm.runtime.tensor(np.array([0.5, 0.5], dtype=np.float32))  # 0.5 x + 0.5: stays a normal number
    best = 0.0
    for lanes in _LANES:
        width = lanes * _ACCUMULATORS
        text = _PROBE.format(tasks=threads, width=width, accumulators=_ACCUMULATORS, lanes=lanes, steps=_STEPS)
        run = tvm.compile(tvm.script.from_source(text), target=target)["main"]
        out = tvm.runtime.tensor(np.zeros((threads, width), dtype=np.float32))
        seconds = _least_seconds(lambda run=run, out=out: run(x, out), 0.25)  # type: ignore[misc]
        best = max(best, 2.0 * threads * width * _STEPS / seconds)
    return best


def matmul_rate() -> float:
    """Flops per second of numpy's best matrix product."""
    best = 0.0
    for m, n, k in _MATMULS:
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
        out = np.empty((m, n), dtype=np.float32)
        seconds = _least_seconds(lambda a=a, b=b, out=out: np.matmul(a, b, out=out), 0.3)  # type: ignore[misc]
        best = max(best, 2.0 * m * n * k / seconds)
    return best


def memory_rate(threads: int) -> tuple[float, str]:
    """Bytes per second to and from memory, and which of reading and copying was faster."""
    size = min(max(4 * last_level_cache_bytes(), 128 << 20), 512 << 20) // 4
    source, target = np.ones(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    slices = list(_slices(size, threads))
    with ThreadPoolExecutor(threads) as pool:  # numpy releases the interpreter lock in both

        def read() -> None:
            list(pool.map(lambda part: source[part].max(), slices))

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[part], source[part]), slices))

        rates = {
            "reading": source.nbytes / _least_seconds(read, 0.4),
            "copying": 2 * source.nbytes / _least_seconds(copy, 0.4),
        }
    best = max(rates, key=lambda name: rates[name])
    return rates[best], f"{best} {source.nbytes >> 20} MiB"


def _slices(size: int, parts: int) -> Iterator[slice]:
    for i in range(parts):
        yield slice(i * size // parts, (i + 1) * size // parts)


def _least_seconds(call: Callable[[], Any], budget_s: float) -> float:
    """The fastest of the calls that fit into `budget_s`, at least three: a ceiling is what was possible once."""
    call()
    best, count, deadline = float("inf"), 0, time.perf_counter() + budget_s
    while count < 3 or time.perf_counter() < deadline:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        count += 1
    return best
