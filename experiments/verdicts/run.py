"""How often do verdicts err? A/A comparisons of real kernels, and kernels that do 5 % more work.

A slowed kernel is the same machine code, called 21 times where the other is called 20 times: 5 % more work, whatever a
compiler or a cache makes of it.

    python experiments/verdicts/run.py build FOLDER
    python experiments/verdicts/run.py aa FOLDER [--count 200] [--seconds 200]
    python experiments/verdicts/run.py slow FOLDER [--count 100] [--seconds 200]
    python experiments/verdicts/run.py say FOLDER

`aa` and `slow` go on where an earlier call ended, and stop after `--seconds`; run them on an idle machine. Comparisons
are those of `python -m tuner compare`: five fresh processes, both kernels and the first one again in turn. To save
starting so many, a process serves all kernels, one after another, as in the certification of a run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

KERNELS = 12
CALLS = 20
MORE_CALLS = 21  # the same machine code, once more in twenty: 5 % more work
LONGEST_S = 2.5e-5  # of one of the twenty: a comparison of longer ones has too few pairs in a second

WRAPPED = """
extern int __tvm_ffi_{entry}(void *self, const void *arguments, int count, void *result);
int __tvm_ffi_again_{entry}(void *self, const void *arguments, int count, void *result) {{
  int failed = 0;
  for (int call = 0; call < {calls} && !failed; ++call) failed = __tvm_ffi_{entry}(self, arguments, count, result);
  return failed;
}}
"""


def workloads():
    from tvm import te, topi

    from kernels.workload import from_prim_func

    a, b = te.placeholder((64, 64), name="a"), te.placeholder((64, 80), name="b")
    yield from_prim_func(te.create_prim_func([a, b, topi.matmul(a, b)]), "matmul 64x64x80")
    data, weight = te.placeholder((1, 8, 16, 16), name="data"), te.placeholder((16, 8, 3, 3), name="weight")
    conv = topi.nn.relu(topi.nn.conv2d_nchw(data, weight, 1, 1, 1))
    yield from_prim_func(te.create_prim_func([data, weight, conv]), "conv 3x3 8x16x16 to 16")
    x, y = te.placeholder((64, 500), name="x"), te.placeholder((64, 500), name="y")
    yield from_prim_func(te.create_prim_func([x, y, topi.nn.relu(topi.add(x, y))]), "add relu 64x500")


def seconds_of(library: Path, entry: str, work) -> float:
    """What a call takes, the least of a few."""
    import tvm

    tensors = [tvm.runtime.empty(t.shape, t.dtype) for t in (*work.inputs, *work.outputs)]
    module = tvm.runtime.load_module(str(library))
    return min(module.time_evaluator(entry, tvm.cpu(), number=10, repeat=5)(*tensors).results)


def library_of(compiled: Path, entry: str, calls: int, name: str) -> Path:
    """A library in which `again_{entry}` calls a compiled kernel so many times."""
    source = compiled.with_name(f"{entry}-{name}.c")
    source.write_text(WRAPPED.format(entry=entry, calls=calls))
    library = source.with_suffix(".so")
    compiler = next((found for found in map(shutil.which, ("cc", "gcc")) if found), None)
    if compiler is None:
        raise SystemExit("no C compiler found (cc or gcc): install one, e.g. the package gcc")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), str(compiled)], check=True)
    return library


def build(folder: Path) -> None:
    import numpy as np
    import tvm
    from tvm.target import Target

    from kernels.reference import evaluate, reduction_length, working_dtype
    from kernels.space import InvalidCandidate, TraceApplier, generate
    from kernels.workload import seeded_inputs
    from tuner.config import TargetConfig
    from tuner.devices.cpu.bench import job_of
    from tuner.devices.resolve import resolve
    from tuner.protocols import Artifact, Reference

    folder.mkdir(parents=True, exist_ok=True)
    target = Target(json.loads(resolve(TargetConfig(threads=1)).text))
    jobs = []
    names = itertools.count()  # a library that was loaded must not be written again
    for number, work in enumerate(workloads()):
        space = generate(work, target)
        applier = TraceApplier(work, space, target)
        rng = np.random.default_rng(number)
        path = folder / f"reference-{number}.npz"
        function = applier.module["main"]
        outputs = evaluate(function, seeded_inputs(work.inputs, 1), work.num_outputs)
        with open(path, "wb") as file:
            np.savez(file, *[o.astype(s.dtype) for o, s in zip(outputs, work.outputs, strict=True)])
        reference = Reference(path, working_dtype(function), reduction_length(function))
        found = 0
        while found < KERNELS // 3:
            candidate = space.sample(rng)
            try:
                scheduled = applier.apply(candidate).mod["main"]
            except InvalidCandidate:
                continue
            entry = f"kernel_{next(names)}"
            compiled = folder / f"{entry}.o"
            named = tvm.IRModule({entry: scheduled.with_attr("global_symbol", entry)})
            with target, tvm.transform.PassContext(opt_level=3, config=candidate.passes.context_options()):
                tvm.compile(named, target=target).mod.write_to_file(str(compiled))
            once = library_of(compiled, entry, 1, "once")
            if seconds_of(once, f"again_{entry}", work) > LONGEST_S:
                continue
            artifact = Artifact(library_of(compiled, entry, CALLS, "path"), f"again_{entry}", "", 0.0)
            job = {"name": work.name, **job_of(artifact, work.key, work.inputs, work.outputs, 1, reference)}
            job["copy"] = str(folder / f"{entry}-copy.so")  # the same code, elsewhere in memory
            shutil.copyfile(job["path"], job["copy"])
            job["slowed"] = str(library_of(compiled, entry, MORE_CALLS, "slowed"))
            jobs.append(job)
            found += 1
        print(f"{work.name}: {found} kernels")
    (folder / "jobs.json").write_text(json.dumps(jobs, indent=1))


def compare(folder: Path, kind: str, count: int, seconds: float, threads: int, budget_s: float) -> None:
    from tuner.commands.compare import PROCESSES
    from tuner.devices.cpu.bench import KernelBench
    from tuner.measure.pooled import compare_measurements, pool_session
    from tuner.process.pinning import thread_env
    from tuner.protocols import CERTIFY

    jobs = json.loads((folder / "jobs.json").read_text())
    bench = KernelBench("hot", threads, thread_env(threads), 20.0)
    out = folder / f"{kind}.jsonl"
    done = len(out.read_text().splitlines()) if out.exists() else 0
    deadline = time.monotonic() + seconds
    try:
        while done < count and time.monotonic() < deadline:
            began = time.monotonic()
            found: list[list] = [[] for _ in jobs]
            controls: list[list] = [[] for _ in jobs]
            for process in range(PROCESSES):
                bench.renew()
                for number, job in enumerate(jobs):
                    rival = {**job, "path": job["copy" if kind == "aa" else "slowed"]}
                    measured, control = bench.measure_interleaved([job, rival], CERTIFY, budget_s, seed=done + process)
                    found[number].append(measured)
                    controls[number].append(control)
            for number, job in enumerate(jobs[: count - done]):
                ours, theirs = pool_session(found[number], controls[number], "once")
                verdict = compare_measurements(theirs, ours)  # the rival against the incumbent
                row = {
                    "kernel": job["name"], "label": verdict.label.value, "ratio": verdict.ratio,
                    "interval": verdict.interval, "floor": ours.conditions.aa_floor,
                    "pairs": len(theirs.samples_s), "median_s": ours.median_s if ours.ok else None,
                    "budget_s": budget_s, "load": os.getloadavg()[0], "seconds": (time.monotonic() - began) / len(jobs),
                    "status": [ours.status.value, theirs.status.value], "reason": ours.reason or theirs.reason,
                }  # fmt: skip
                with open(out, "a") as file:
                    file.write(json.dumps(row) + "\n")
                done += 1
    finally:
        bench.close()
    print(f"{kind}: {done} of {count} done")


def say(folder: Path) -> None:
    for kind in ("aa", "slow"):
        path = folder / f"{kind}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if not rows:
            continue
        floors = sorted(row["floor"] if row["floor"] is not None else math.inf for row in rows)
        print(f"{kind}: {len(rows)} comparisons, {dict(Counter(row['label'] for row in rows))}")
        print(f"  A/A floor: median {floors[len(floors) // 2]:.2%}, worst {floors[-1]:.2%}")
        print(f"  {sum(row['seconds'] for row in rows) / len(rows):.1f} s each")
        for name in dict.fromkeys(row["kernel"] for row in rows):
            own = [row for row in rows if row["kernel"] == name]
            ratios = sorted(row["ratio"] for row in own if row["ratio"] is not None)
            found = f"{ratios[len(ratios) // 2]:.4f} ({ratios[0]:.4f} to {ratios[-1]:.4f})" if ratios else "none"
            print(f"  {name}: {len(own)}, {dict(Counter(row['label'] for row in own))}, median ratio {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("build", "aa", "slow", "say"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.6, help="seconds for one comparison in one process")
    given = parser.parse_args()
    if given.what == "build":
        build(given.folder)
    elif given.what == "say":
        say(given.folder)
    else:
        count = given.count or {"aa": 200, "slow": 100}[given.what]
        compare(given.folder, given.what, count, given.seconds, given.threads, given.budget)


if __name__ == "__main__":
    main()
