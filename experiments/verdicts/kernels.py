"""Builds the kernels that are compared: each in a library that calls it twenty times, a copy, and a slowed one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.common import cpu_target, write_json, write_reference
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.tensors import ConstantOperands
from kernels.workload import Workload, from_prim_func
from tuner.protocols import Artifact, Job, Reference, Task, job_of

KERNELS = 12
CALLS = 20
MORE_CALLS = 21  # the same machine code, once more in twenty: 5 % more work
LONGEST_S = 2.5e-5  # of one of the twenty: a comparison of longer ones has too few pairs in a second

WEIGHT = ConstantOperands((1,), 1 << 40)
"""The second argument of each is taken for a weight of a model that no cache holds; only mode `model` minds."""

SEED = 1
FILE = "jobs.json"

WRAPPER = """
extern int __tvm_ffi_{entry}(void *self, const void *arguments, int count, void *result);
int __tvm_ffi_again_{entry}(void *self, const void *arguments, int count, void *result) {{
  int failed = 0;
  for (int call = 0; call < {calls} && !failed; ++call) failed = __tvm_ffi_{entry}(self, arguments, count, result);
  return failed;
}}
"""


@dataclass(frozen=True)
class Compared:
    """A kernel's job, and the libraries it is compared with: the same code elsewhere in memory, and 5 % more work."""

    name: str
    job: Job
    copy: Path
    slowed: Path

    def against(self, library: Path) -> Job:
        """The job of another library with the same entry."""
        return dataclasses.replace(self.job, path=library)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "job": self.job.to_json(), "copy": str(self.copy), "slowed": str(self.slowed)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["name"], Job.from_json(data["job"]), Path(data["copy"]), Path(data["slowed"]))


def read(folder: Path) -> list[Compared]:
    return [Compared.from_json(data) for data in json.loads((folder / FILE).read_text())]


def build(folder: Path) -> None:
    """Build the kernels into a folder, and the list of them that `read` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"kernel_{number}" for number in itertools.count())  # a library that was loaded is never written again
    compared: list[Compared] = []
    for number, workload in enumerate(workloads()):
        reference = write_reference(workload, SEED, folder / f"reference-{number}.npz")
        of_this = list(itertools.islice(_kernels(workload, reference, names, number, folder), KERNELS // 3))
        print(f"{workload.name}: {len(of_this)} kernels")
        compared += of_this
    write_json(folder / FILE, [kernel.to_json() for kernel in compared])


def workloads() -> Iterator[Workload]:
    from tvm import te, topi

    a, b = te.placeholder((64, 64), name="a"), te.placeholder((64, 80), name="b")
    yield from_prim_func(te.create_prim_func([a, b, topi.matmul(a, b)]), "matmul 64x64x80")
    data, weight = te.placeholder((1, 8, 16, 16), name="data"), te.placeholder((16, 8, 3, 3), name="weight")
    conv = topi.nn.relu(topi.nn.conv2d_nchw(data, weight, 1, 1, 1))
    yield from_prim_func(te.create_prim_func([data, weight, conv]), "conv 3x3 8x16x16 to 16")
    x, y = te.placeholder((64, 500), name="x"), te.placeholder((64, 500), name="y")
    yield from_prim_func(te.create_prim_func([x, y, topi.nn.relu(topi.add(x, y))]), "add relu 64x500")


def _kernels(
    workload: Workload, reference: Reference, names: Iterator[str], seed: int, folder: Path
) -> Iterator[Compared]:
    """Random candidates that can be scheduled and are short enough, built, without end."""
    target = cpu_target(1)
    space = generate(workload, target.tvm())
    applier = TraceApplier(workload, space, target.tvm())
    task = Task(workload, target.text, constants=WEIGHT)
    rng = np.random.default_rng(seed)
    while True:
        candidate = space.sample(rng)
        try:
            function = applier.apply(candidate).mod["main"]
        except InvalidCandidate:
            continue
        name = next(names)
        compiled = _compile(function, candidate, target.tvm(), folder / f"{name}.o")
        if _seconds(_library(compiled, 1, "once"), f"again_{name}", workload) > LONGEST_S:
            continue
        artifact = Artifact(_library(compiled, CALLS, "path"), f"again_{name}", "", 0.0)
        copy = folder / f"{name}-copy.so"
        shutil.copyfile(artifact.path, copy)
        job = job_of(task, candidate, artifact, SEED, reference)
        yield Compared(workload.name, job, copy, _library(compiled, MORE_CALLS, "slowed"))


def _compile(function: Any, candidate: Candidate, target: Any, path: Path) -> Path:
    """An object whose entry has the name of its file."""
    import tvm

    module = tvm.IRModule({path.stem: function.with_attr("global_symbol", path.stem)})
    with target, tvm.transform.PassContext(opt_level=3, config=candidate.passes.context_options()):
        tvm.compile(module, target=target).mod.write_to_file(str(path))
    return path


def _library(compiled: Path, calls: int, name: str) -> Path:
    """A library in which `again_ENTRY` calls a compiled kernel so many times."""
    compiler = next((path for path in map(shutil.which, ("cc", "gcc")) if path), None)
    if compiler is None:
        raise SystemExit("no C compiler found (cc or gcc): install one, e.g. the package gcc")
    source = compiled.with_name(f"{compiled.stem}-{name}.c")
    source.write_text(WRAPPER.format(entry=compiled.stem, calls=calls))
    library = source.with_suffix(".so")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), str(compiled)], check=True)
    return library


def _seconds(library: Path, entry: str, workload: Workload) -> float:
    """What a call takes, the least of a few."""
    import tvm

    tensors = [tvm.runtime.empty(spec.shape, spec.dtype) for spec in (*workload.inputs, *workload.outputs)]
    module = tvm.runtime.load_module(str(library))
    return float(min(module.time_evaluator(entry, tvm.cpu(), number=10, repeat=5)(*tensors).results))
