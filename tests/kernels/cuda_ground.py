"""The proving ground of CUDA kernels: candidates compiled for the simulated GPU, run through PyCUDA and compared with
the reference. Barriers, shared memory, fragments and asynchronous copies are executed, and every access is checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kernels.cubin import CompileFailed
from kernels.emit_gpu import emit
from kernels.opencl import renamed
from kernels.space import Candidate
from kernels.workload import Workload, from_prim_func
from tests.kernels.gpu_ground import (
    ODD,
    Case,
    drawn,
    reference_of,
    run_and_compared,
    with_shorter_rows,
    without_nth,
)
from tests.kernels.gpu_workloads import PROGRAMS, gpu, matmul
from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.compiler import compile_simulated

__all__ = [
    "GROUND", "TARGET", "Case", "Ground", "beyond_shared", "cases", "narrower", "swapped_fragment",
    "without_barrier", "without_wait", "workload", "wrong_stride",
]  # fmt: skip

TARGET = gpu("sm_90a")

GROUND: Mapping[str, Callable[[], Any]] = {
    **PROGRAMS,
    "matmul in bfloat16 of primes": lambda: matmul(31, 37, 61, "bfloat16"),
    **ODD,
}
"""By name: every kind of program, odd and prime extents and tensor cores among them."""


def workload(name: str) -> Workload:
    return from_prim_func(GROUND[name](), name)


def cases(made: Workload, count: int, seed: int = 5, sketch: int | None = None) -> Iterator[Case]:
    """See `gpu_ground.drawn`."""
    return drawn(made, TARGET, emit, count, seed, sketch)


class Ground:
    """The simulated GPU of this process, to execute cases on. `folder` is for what is compiled."""

    def __init__(self, folder: Path) -> None:
        native.preload()
        from tuner.devices.cuda.driver import CudaGpu

        self._folder = folder
        self.gpu = CudaGpu(0)
        self._last: tuple[str, bytes] = "", b""

    def wrong(self, case: Case, source: str | None = None) -> str:
        """What is wrong with a case's outputs, inputs or guard bytes, or ""; `source` in place of its own."""
        from tuner.devices.gpu.runner import GpuError

        made, plan = case.workload, case.program.plan
        inputs, *_ = reference_of(made)
        try:
            compiled = self._compiled(source or case.program.source)
            kernel = self.gpu.kernel(compiled, plan, inputs, list(made.outputs))
        except (GpuError, CompileFailed) as error:
            return f"not compiled: {error}"
        try:
            return run_and_compared(self.gpu, kernel, made)
        except GpuError as error:
            native.reset()
            return str(error)
        finally:
            kernel.free()

    def _compiled(self, source: str) -> bytes:
        """The cubin of a source; the last one is kept. Raises CompileFailed."""
        if self._last[0] != source:
            self._last = source, compile_simulated(source, "sm_90", self._folder, {}).path.read_bytes()
        return self._last[1]

    def wrong_ones(self, cases: Sequence[Case]) -> dict[Candidate, str]:
        """What `wrong` says of each case that is wrong. Those of one program that need the same declarations are
        compiled at once, which takes a third of the time."""
        found = {}
        for declarations, like in itertools.groupby(sorted(cases, key=_declarations), _declarations):
            alone = list(like)
            numbered = [replace(case, program=renamed(case.program, f"k{n}")) for n, case in enumerate(alone)]
            together = "\n".join([declarations, *(case.program.source.removeprefix(declarations) for case in numbered)])
            try:
                self._compiled(together)
            except CompileFailed:  # for one of them: each by itself
                reasons = [self.wrong(case) for case in alone]
            else:
                reasons = [self.wrong(case, together) for case in numbered]
            found.update({case.candidate: reason for case, reason in zip(alone, reasons, strict=True) if reason})
        return found

    def close(self) -> None:
        """Give the GPU back, which a process must before it ends."""
        self.gpu.close()


def _declarations(case: Case) -> str:
    """What stands before a source's first kernel."""
    return case.program.source.partition('extern "C"')[0]


def without_barrier(source: str, number: int) -> str | None:
    """The source without one of its barriers; None where it has not so many."""
    return without_nth(source, "__syncthreads();", number)


def wrong_stride(source: str, stride: int) -> str | None:
    """The source with rows that are one element too short; None where nothing has that stride."""
    return with_shorter_rows(source, stride)


_FRAGMENT = re.compile(r"(mma_sync\(\w+\[\d+\], \w+)\[(\d+)\]")
_LOADED = re.compile(r"(load_matrix_sync\(\w+matrix_a\w+\[\d+\], .*, )(\d+)\);")
_WAIT = re.compile(r"\btvm_builtin_ptx_cp_async_wait_group\w+\(\);")
_SHARED = re.compile(r"(__shared__ [^;\[]*)\[(\d+)\];")


def swapped_fragment(source: str) -> str | None:
    """The source whose first product on tensor cores takes another fragment; None where there is but one."""
    numbers = {match[2] for match in _FRAGMENT.finditer(source)}
    if not {"0", "1"} <= numbers:
        return None
    return _FRAGMENT.sub(lambda m: f"{m[1]}[{1 if m[2] == '0' else 0}]", source, count=1)


def narrower(source: str) -> str | None:
    """The source that loads fragments from rows that are 8 elements shorter; None where it loads none."""
    changed, count = _LOADED.subn(lambda m: f"{m[1]}{int(m[2]) - 8});", source)
    return changed if count else None


def without_wait(source: str) -> str | None:
    """The source that never waits for asynchronous copies; None where it makes none."""
    changed, count = _WAIT.subn(";", source)
    return changed if count and re.search(r"cp\.async\.c[ag]", source) else None


def beyond_shared(source: str) -> str:
    """The source with half of its shared memory."""
    return _SHARED.sub(lambda m: f"{m[1]}[{int(m[2]) // 2}];", source)
