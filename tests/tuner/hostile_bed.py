"""A bench on which hostile kernels and a good one are measured in turn, by the real worker."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kernels.passes import PASSES
from kernels.reference import tolerance
from tests.tuner.devices.test_builder import TARGET, matmul
from tests.tuner.hostile_kernels import CASES, Hostile, N, compile_all
from tuner.devices.cpu import CPU
from tuner.devices.cpu.bench import KernelBench
from tuner.process.pinning import thread_env
from tuner.process.worker import Child
from tuner.protocols import SCREEN, Artifact, Job, Task, job_of

POLICY = dataclasses.replace(SCREEN, max_time_s=0.2)


@dataclasses.dataclass(frozen=True)
class Bed:
    """A bench, a job that is fine, the library of those that are not, and the bench's folder for temporary files."""

    bench: KernelBench
    good: Job
    library: Path
    scratch: Path

    def hostile(self, name: str) -> Job:
        return dataclasses.replace(self.good, path=self.library, entry=name)

    def child(self) -> Child:
        child = self.bench._supervisor._child  # noqa: SLF001 - what it left behind can only be seen from inside
        assert child is not None
        return child

    def assert_healthy(self) -> None:
        measurement = self.bench.measure(self.good, POLICY)
        assert measurement.ok, measurement.reason


@contextlib.contextmanager
def make_bed(folder: Path, more: Sequence[Hostile] = ()) -> Iterator[Bed]:
    task = Task(matmul(N), TARGET)
    builder = CPU.builder(TARGET, folder / "built", 1, 60)
    try:
        candidate = builder.space(task, tuple(PASSES)).initial_candidates()[0]
        [artifact] = builder.build(task, [candidate])
        found = builder.reference(task, [0, 1], folder)
    finally:
        builder.close()
    assert isinstance(artifact, Artifact)
    assert not isinstance(found, str)
    good = job_of(task, candidate, artifact, 0, found[0], (1, found[1]))
    scratch = folder / "tmp"
    scratch.mkdir()
    bench = KernelBench("hot", 1, {**thread_env(1), "TMPDIR": str(scratch)}, timeout_s=3)
    made = Bed(bench, good, compile_all(folder, (*CASES, *more), *_around_tolerance(found[0].path)), scratch)
    try:
        made.assert_healthy()
        yield made
    finally:
        bench.close()


def _around_tolerance(reference: Path) -> tuple[float, float]:
    """Errors of element 77 just outside of the tolerance, and just inside whatever the inputs are."""
    with np.load(reference, allow_pickle=False) as stored:
        expected = stored["arr_0"].astype(np.float64)
    relative, absolute = tolerance("float32", N)
    scale = float(np.sqrt(np.mean(expected**2)))
    return 1.1 * (relative * abs(float(expected.flat[77])) + absolute * scale), 0.9 * absolute * scale
