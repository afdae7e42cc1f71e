"""Random thread-bound programs for persistent blocks and stream-K, and what is broken in their sources on purpose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tvm
from tvm.target import Target

from kernels.emit_gpu import EmitFailed, GpuProgram
from kernels.passes import Applied, PassConfig
from kernels.passes.persist import Persist
from kernels.passes.stream_k import StreamK
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.workload import Workload, from_prim_func
from tests.kernels.coalescing_programs import bound, program
from tests.kernels.gpu_ground import Case
from tests.kernels.gpu_workloads import conv, depthwise, matmul, softmax

EXTENTS = (1, 5, 13, 16, 31, 32, 37, 48, 61, 64, 97)
_DRAWS = 12


def workload(rng: np.random.Generator, half: bool) -> Workload:
    """A random product or convolution, of odd, prime and unit extents, or a softmax; `half`: also in float16."""
    kind = str(rng.choice(["product", "product", "product", "conv2d", "depthwise", "softmax"]))
    if kind == "product":
        m, n, k = (int(rng.choice(EXTENTS)) for _ in range(3))
        batch = int(rng.choice((0, 0, 0, 3)))
        read = "float16" if half and rng.integers(3) == 0 else "float32"
        return from_prim_func(matmul(m, n, k, read, "float32", batch), f"{batch or 1} x {m} x {n} x {k} {read}")
    if kind == "softmax":
        rows, columns = (int(rng.choice(EXTENTS)) for _ in range(2))
        return from_prim_func(softmax(rows, columns), f"softmax {rows} x {columns}")
    channels, out, size = int(rng.choice((3, 5, 8, 16))), int(rng.choice((4, 7, 16))), int(rng.choice((5, 7, 9, 13)))
    if kind == "depthwise":
        return from_prim_func(depthwise(channels, size, int(rng.integers(1, 3))), f"depthwise {channels} {size}")
    stride = int(rng.integers(1, 3))
    return from_prim_func(conv(channels, out, size, stride), f"conv2d {channels} {out} {size} {stride}")


def settings(rng: np.random.Generator) -> PassConfig:
    """A random setting of the two passes, for few resident blocks."""
    blocks = int(rng.choice((1, 2, 3, 4, 5, 7, 8, 13)))
    divide = int(rng.choice((0, 1, 1, 2, 2)))
    config = PassConfig().replace(StreamK(divide, blocks if divide else 0))
    return config if divide and rng.integers(2) else config.replace(Persist(True, blocks))


Emit = Callable[[tvm.IRModule, Target, int], GpuProgram]


def drawn(seed: int, target: Target, emit: Emit) -> tuple[Case, Applied] | None:
    """The case of a seed and what was applied to it; None where every setting was refused."""
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        config = settings(rng)
        for made, function in _scheduled(rng, target):
            applied = config.applied(function, target)
            if applied.passes == PassConfig():
                continue
            try:
                emitted = emit(tvm.IRModule({"main": applied.function}), target, made.num_outputs)
            except EmitFailed:
                continue
            return Case(made, Candidate(-1, (), applied.passes), emitted), applied
    return None


def _scheduled(rng: np.random.Generator, target: Target) -> Iterator[tuple[Workload, Any]]:
    """A random program, scheduled by a random candidate of its space, or bound at random."""
    if rng.integers(3) == 0:
        seed = int(rng.integers(1 << 20))
        function, kind = program(seed)
        yield from_prim_func(function, f"{kind} {seed}"), bound(function, seed)
        return
    made = workload(rng, half=target.kind.name == "cuda")
    space = generate(made, target, ["unroll"])
    applier = TraceApplier(made, space, target)
    for _ in range(4):
        candidate = space.sample_sketch(int(rng.integers(len(space.sketches))), rng)
        if candidate is None:
            continue
        try:
            yield made, applier.apply(candidate).mod["main"]
        except InvalidCandidate:
            continue


def shorter(source: str, loop: str) -> str | None:
    """The source whose loop of that name ends one iteration early; None where it has none."""
    changed, count = re.subn(rf"\b({loop}\w*) < (.*?); \+\+\1\b", r"\1 < (\2) - 1; ++\1", source)
    return changed if count else None


def without_last_barrier(source: str, statement: str) -> str | None:
    """The source without the barrier that ends the tile of its first kernel that has one; None where none has."""
    kernels = re.split(r"(?=^(?:extern \"C\" __global__|__kernel) )", source, flags=re.MULTILINE)
    for number, kernel in enumerate(kernels):
        before, found, after = kernel.rpartition(statement)
        if found and re.search(r"\bnumber\w* <", kernel):
            kernels[number] = f"{before};{after}"
            return "".join(kernels)
    return None


def sabotages(source: str, barrier: str) -> Iterator[tuple[str, str]]:
    """A source broken in each way that it allows."""
    ways = {
        "no barrier between tiles": without_last_barrier(source, barrier),
        "a tile is left out": shorter(source, "number"),
        "a step is left out": shorter(source, "step"),
        "a part is left out": shorter(source, "part"),
    }
    yield from ((what, changed) for what, changed in ways.items() if changed is not None and changed != source)
