"""What this machine can do at most, measured: arithmetic by dtype, traffic by memory level."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tuner.devices.cpu.runner import last_level_cache_bytes
from tuner.devices.cpu.target import host_cpu

DTYPES = ("float32", "float64", "float16")

DOT_DTYPES = {"bfloat16": 2, "int8": 4}
"""Operands of the CPU's dot-product instructions, and how many fit in place of a float32."""

_ACCUMULATORS = 12  # covers a fused multiply-add's latency (4 cycles x 2 ports) and fits 16 vector registers
_STEPS = 400_000  # one or two milliseconds
_WIDTHS = (16, 32, 64)  # bytes of a vector: SSE and NEON, AVX, AVX-512: which is best is found by trying
_MATMULS = ((1024, 1024, 1024), (2048, 2048, 2048), (512, 2048, 1024))
_PASS_BYTES = 64 << 20  # one timed call moves about as much: milliseconds

# Accumulators stay in registers: nothing but arithmetic is left in the inner loop.
_ARITHMETIC = """
@T.prim_func(s_tir=True)
def main(x: T.Buffer((2,), "{dtype}"), out: T.Buffer(({tasks}, {width}), "{dtype}")):
    T.func_attr({{"tirx.noalias": True}})
    for t in T.parallel({tasks}):
        acc = T.alloc_buffer(({width},), "{dtype}", scope="local")
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

# The same with a dot-product instruction (`kernels.dots`); x holds the operands' bits.
_DOTS = """
@T.prim_func(s_tir=True)
def main(x: T.Buffer((2,), "int32"), out: T.Buffer(({tasks}, {width}), "{dtype}")):
    T.func_attr({{"tirx.noalias": True}})
    for t in T.parallel({tasks}):
        acc = T.alloc_buffer(({width},), "{dtype}", scope="local")
        for u in T.unroll({accumulators}):
            for v in T.vectorized({lanes}):
                acc[u * {lanes} + v] = T.Cast("{dtype}", 0)
        for r in range({steps}):
            for u in T.unroll({accumulators}):
                acc[T.ramp(u * {lanes}, 1, {lanes})] = T.call_extern(
                    "{dtype}x{lanes}", "{symbol}", acc[T.ramp(u * {lanes}, 1, {lanes})],
                    T.broadcast(x[0], {lanes}), T.broadcast(x[1], {lanes}),
                )
        for u in T.unroll({accumulators}):
            for v in T.vectorized({lanes}):
                out[t, u * {lanes} + v] = acc[u * {lanes} + v]
"""

# Repeated sums of a buffer: the order of additions is fixed, so no pass over it can be left out.
_READING = """
@T.prim_func(s_tir=True)
def main(x: T.Buffer(({tasks}, {count}), "float32"), out: T.Buffer(({tasks}, {width}), "float32")):
    T.func_attr({{"tirx.noalias": True}})
    for t in T.parallel({tasks}):
        acc = T.alloc_buffer(({width},), "float32", scope="local")
        for u in T.unroll({accumulators}):
            for v in T.vectorized({lanes}):
                acc[u * {lanes} + v] = T.float32(0)
        for r in range({steps}):
            for i in range({count} // {width}):
                for u in T.unroll({accumulators}):
                    for v in T.vectorized({lanes}):
                        acc[u * {lanes} + v] = acc[u * {lanes} + v] + x[t, i * {width} + u * {lanes} + v]
        for u in T.unroll({accumulators}):
            for v in T.vectorized({lanes}):
                out[t, u * {lanes} + v] = acc[u * {lanes} + v]
"""


def least_bytes(inputs: Sequence[int], output: int, itemsize: int, flops: float) -> int:
    """Bytes that a kernel cannot do without: its output, and of each input no more than its arithmetic and its
    copying can have touched. (A table of which some rows are looked up is not read whole.) All in bytes."""
    touched = int(2 * output + flops * itemsize)
    return output + sum(min(size, touched) for size in inputs)


def lower_bound_s(flops: float, least_bytes: int, ceilings: Mapping[str, Any], dtype: str = "float32") -> float:
    """The least seconds that a kernel can take: max(flops / peak, bytes / bandwidth).

    Only the bytes that cannot have stayed in the last-level cache count: in hot mode the others are there already.
    """
    arithmetic = flops / peak_flops_per_s(ceilings, dtype)
    from_memory = max(0, least_bytes - int(ceilings["cache_bytes"]))
    return max(arithmetic, from_memory / float(ceilings["bandwidth_bytes_per_s"]))


def peak_flops_per_s(ceilings: Mapping[str, Any], dtype: str) -> float:
    """Of float64 its own peak; of anything else the highest: a half-precision kernel may compute in float32.

    Only kernels with such operands are held to the peaks of dot-product instructions. Where those were not measured
    they are taken to be as much higher as operands are narrower.
    """
    peaks = {name: float(rate) for name, rate in ceilings.get("peaks", {}).items()}
    if dtype == "float64" and dtype in peaks:
        return peaks[dtype]
    others = [rate for name, rate in peaks.items() if name not in DOT_DTYPES]
    highest = max([float(ceilings["peak_flops_per_s"]), *others])
    if dtype not in DOT_DTYPES:
        return highest
    return max(highest, peaks.get(dtype, highest * DOT_DTYPES[dtype]))


class Ceilings:
    """A child's service, started with `thread_env(threads)`. It pins itself: the child does nothing else."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def op_measure(self, hurried: bool = False) -> dict[str, Any]:
        """`peak_flops_per_s` (float32) and `peaks` by dtype, `bandwidth_bytes_per_s` of memory and `levels` by cache
        level, `cache_bytes`, `method`; about seven seconds on an idle machine. Where it is `hurried`, in a third of
        that: `peaks` has float32 alone."""
        cpus = sorted(os.sched_getaffinity(0))
        if self._threads < len(cpus):  # numpy's thread count was fixed when it was imported; the CPUs are not
            os.sched_setaffinity(0, cpus[: self._threads])
        peaks: dict[str, float] = {}
        methods = []
        widths: tuple[int, ...] = _WIDTHS  # the best for one dtype is the best for all
        for dtype in DTYPES[:1] if hurried else DTYPES:
            # On a busy machine all threads are seldom free at once, but one is for a millisecond. A ceiling that is too
            # low would make right kernels suspect; one that is a little too high only makes fewer wrong ones so.
            alone, width = fma_rate(1, dtype, widths)
            widths = (width,)
            rates = {
                "multiply-adds in registers, one thread times threads": self._threads * alone,
                "multiply-adds in registers": fma_rate(self._threads, dtype, widths)[0],
            }
            if dtype != "float16" and not hurried:  # numpy has no library for it
                rates["numpy matmul"] = matmul_rate(dtype)
            best = max(rates, key=lambda name: rates[name])
            peaks[dtype] = rates[best]
            methods.append(f"{dtype}: {best}")
        for dtype, rate in ({} if hurried else dot_rates(self._threads)).items():
            peaks[dtype] = rate
            methods.append(f"{dtype}: dot products in registers, one thread times threads")
        bandwidth, how = memory_rate(self._threads)
        return {
            "peak_flops_per_s": peaks["float32"],
            "peaks": peaks,
            "bandwidth_bytes_per_s": bandwidth,
            "levels": [
                {**level, "bytes_per_s": read_rate(self._threads, level["probe_bytes"], widths[0])}
                for level in cache_levels(self._threads)
            ],
            "cache_bytes": last_level_cache_bytes(),
            "method": f"{'; '.join(methods)}; {how}; best of repeats, {self._threads} threads",
        }


def cache_levels(threads: int, folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> list[dict[str, Any]]:
    """The first CPU's data caches as Linux states them, from the innermost: `{name, bytes, probe_bytes}`.

    `probe_bytes` a thread is half its share of a cache, so that what is read is in that cache; a level whose probe
    would still fit the level below is left out.
    """
    levels = []
    below = 0
    for index in sorted(folder.glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            size = int((index / "size").read_text().strip().rstrip("KM")) << (
                20 if (index / "size").read_text().strip().endswith("M") else 10
            )
            level = int((index / "level").read_text())
            sharing = _cpus((index / "shared_cpu_list").read_text())
        except (OSError, ValueError):
            continue
        if kind == "Instruction":
            continue
        probe = size // 2 // max(1, min(threads, sharing))
        if probe > below:
            levels.append({"name": f"L{level}", "bytes": size, "probe_bytes": probe})
            below = size
    return levels


def _cpus(text: str) -> int:
    """How many CPUs a list like `0-3,8` names."""
    ends = [part.partition("-") for part in text.strip().split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


def fma_rate(threads: int, dtype: str, widths: Sequence[int]) -> tuple[float, int]:
    """Flops per second of multiply-adds that never leave the registers, on `threads` of TVM's threads, and the best of
    `widths`, the bytes of a vector."""
    import tvm

    x = tvm.runtime.tensor(np.array([0.5, 0.5], dtype=dtype))  # 0.5 x + 0.5: stays a normal number
    best = (0.0, widths[0])
    for vector in widths:
        lanes = vector // np.dtype(dtype).itemsize
        width = lanes * _ACCUMULATORS
        steps = _STEPS // (8 if dtype == "float16" else 1)  # without instructions of its own it is slow
        run = _compiled(_ARITHMETIC, tasks=threads, width=width, lanes=lanes, steps=steps, dtype=dtype)
        out = tvm.runtime.tensor(np.zeros((threads, width), dtype=dtype))
        seconds = _least_seconds(lambda run=run, out=out: run(x, out), 0.2)  # type: ignore[misc]
        best = max(best, (2.0 * threads * width * steps / seconds, vector))
    return best


def dot_rates(threads: int) -> dict[str, float]:
    """Flops per second of the CPU's dot-product instructions in registers, by dtype of the operands, where it has them:
    those of one thread times threads. Where it has tile products (AMX), a bound: so much more than their dot products.
    """
    import tvm

    from kernels import amx
    from kernels.dots import offered

    rates: dict[str, float] = {}
    target = host_cpu(1).tvm()
    faster = {tile.dot: amx.MOST_FASTER for tile in amx.offered(target)}
    for dot in offered(target):
        bits = 0x3F003F00 if dot.left == "bfloat16" else 0x01010101  # halves, ones
        width = dot.lanes * _ACCUMULATORS
        run = _compiled(_DOTS, tasks=1, width=width, lanes=dot.lanes, steps=_STEPS, dtype=dot.result, symbol=dot.symbol)
        x = tvm.runtime.tensor(np.full(2, bits, np.int32))
        out = tvm.runtime.tensor(np.zeros((1, width), dtype=dot.result))
        seconds = _least_seconds(lambda run=run, out=out, x=x: run(x, out), 0.2)  # type: ignore[misc]
        rate = 2.0 * threads * width * dot.steps * _STEPS / seconds * faster.get(dot.name, 1.0)
        rates[dot.right] = max(rate, rates.get(dot.right, 0.0))
    return rates


def read_rate(threads: int, probe_bytes: int, vector: int) -> float:
    """Bytes per second that `threads` threads read together, each repeatedly from `probe_bytes` of its own.

    `vector`: bytes of a vector.
    """
    import tvm

    lanes = vector // 4
    width = lanes * _ACCUMULATORS
    count = max(probe_bytes // 4 // width, 1) * width
    steps = max(1, _PASS_BYTES // (4 * count))
    run = _compiled(_READING, tasks=threads, width=width, lanes=lanes, steps=steps, count=count)
    x = tvm.runtime.tensor(np.ones((threads, count), dtype=np.float32))
    out = tvm.runtime.tensor(np.zeros((threads, width), dtype=np.float32))
    return 4.0 * threads * count * steps / _least_seconds(lambda: run(x, out), 0.2)


def _compiled(text: str, **parts: Any) -> Any:
    import tvm.script

    from kernels.dots import imported

    source = text.format(accumulators=_ACCUMULATORS, **parts)
    function = imported(tvm.script.from_source(source))
    return tvm.compile(function, target=host_cpu(1).tvm())["main"]


def matmul_rate(dtype: str = "float32") -> float:
    """Flops per second of numpy's best matrix product."""
    best = 0.0
    for m, n, k in _MATMULS:
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
        out = np.empty((m, n), dtype=dtype)
        seconds = _least_seconds(lambda a=a, b=b, out=out: np.matmul(a, b, out=out), 0.3)  # type: ignore[misc]
        best = max(best, 2.0 * m * n * k / seconds)
    return best


def memory_rate(threads: int) -> tuple[float, str]:
    """Bytes per second to and from memory, and which of reading and copying was faster."""
    size = min(max(4 * last_level_cache_bytes(), 128 << 20), 512 << 20) // 4
    source, target = np.ones(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    slices = list(_slices(size, threads))
    with ThreadPoolExecutor(threads) as executor:  # numpy releases the interpreter lock in both

        def read() -> None:
            list(executor.map(lambda part: source[part].max(), slices))

        def copy() -> None:
            list(executor.map(lambda part: np.copyto(target[part], source[part]), slices))

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
