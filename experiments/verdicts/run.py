"""How often do verdicts err? A/A comparisons of real kernels, and kernels that do 5 % more work.

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
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

KERNELS = 8
SLOWER_BY = 20  # one iteration more in twenty: 5 %
LONGEST_S = 5e-4  # a comparison of longer calls has too few pairs in a second
ABOUT = (1.03, 1.07)  # five times in a row: LLVM may make other code of the loop, and some kernels have two speeds


def workloads():
    from tvm import te, topi

    from kernels.workload import from_prim_func

    a, b = te.placeholder((320, 128), name="a"), te.placeholder((128, 160), name="b")
    yield from_prim_func(te.create_prim_func([a, b, topi.matmul(a, b)]), "matmul 320x128x160")
    data, weight = te.placeholder((1, 8, 40, 40), name="data"), te.placeholder((40, 8, 3, 3), name="weight")
    conv = topi.nn.relu(topi.nn.conv2d_nchw(data, weight, 1, 1, 1))
    yield from_prim_func(te.create_prim_func([data, weight, conv]), "conv 3x3 8x40x40 to 40")
    x, y = te.placeholder((320, 500), name="x"), te.placeholder((320, 500), name="y")
    yield from_prim_func(te.create_prim_func([x, y, topi.nn.relu(topi.add(x, y))]), "add relu 320x500")


def more_work(function):
    """The function with 5 % more work: after its one outermost loop, one in twenty of the iterations once more, which
    compute again what they did; None where the loop does not divide so, or where something stands beside it."""
    import tvm.script

    root = function.body.block
    if not isinstance(root.body, tvm.tirx.For) or int(root.body.extent) % SLOWER_BY:
        return None
    name, extent = root.body.loop_var.name, int(root.body.extent)
    lines = function.script().splitlines()
    header = re.compile(rf"^( *)for {name} in T\.(\w+)\({extent}(.*)$")
    start, found = next(((i, m) for i, line in enumerate(lines) if (m := header.match(line))), (0, None))
    if found is None:
        return None
    more = [f"{found[1]}for again in T.{found[2]}({extent // SLOWER_BY}{found[3]}"]
    for line in lines[start + 1 :]:
        if not line.startswith(found[1] + " "):
            break
        more.append(re.sub(r'T\.sblock\("(\w+)"\)', r'T.sblock("\1_again")', re.sub(rf"\b{name}\b", "again", line)))
    end = start + len(more)
    return tvm.script.from_source("\n".join([*lines[:end], *more, *lines[end:]]))


def seconds_of(library: str, job: dict) -> float:
    """What a call takes, the median."""
    import tvm

    tensors = [tvm.runtime.empty(tuple(shape), dtype) for shape, dtype in (*job["inputs"], *job["outputs"])]
    module = tvm.runtime.load_module(library)
    return float(module.time_evaluator(job["entry"], tvm.cpu(), number=10, repeat=40)(*tensors).median)


def build(folder: Path) -> None:
    import numpy as np
    import tvm
    from tvm.target import Target

    from kernels.reference import evaluate, reduction_length, working_dtype
    from kernels.space import InvalidCandidate, Replayer, generate
    from kernels.workload import seeded_inputs
    from tuner.build import linker
    from tuner.config import TargetConfig
    from tuner.measure.kernel import job_of
    from tuner.protocols import Artifact, Reference
    from tuner.targets import resolve

    folder.mkdir(parents=True, exist_ok=True)
    target = Target(json.loads(resolve(TargetConfig()).text))
    jobs = []
    names = itertools.count()  # a library that was loaded must not be written again
    for number, work in enumerate(workloads()):
        space = generate(work, target)
        replayer = Replayer(work, space, target)
        rng = np.random.default_rng(number)
        found = 0
        path = folder / f"reference-{number}.npz"
        function = replayer.module["main"]
        outputs = evaluate(function, seeded_inputs(work.inputs, 1), work.num_outputs)
        with open(path, "wb") as file:
            np.savez(file, *[o.astype(s.dtype) for o, s in zip(outputs, work.outputs, strict=True)])
        for _ in range(600):
            if found == -(-KERNELS // 3) or len(jobs) == KERNELS:
                break
            candidate = space.sample(rng)
            try:
                scheduled = replayer.apply(candidate).mod["main"]
            except InvalidCandidate:
                continue
            slowed = more_work(scheduled)
            if slowed is None:
                continue
            entry = f"kernel_{next(names)}"
            reference = Reference(path, working_dtype(function), reduction_length(function))
            artifact = Artifact(folder / f"{entry}-path.so", entry, "", 0.0)
            job = {"name": work.name, **job_of(artifact, work.key, work.inputs, work.outputs, 1, reference)}
            for kind, body in (("path", scheduled), ("slowed", slowed)):
                named = body.with_attr("global_symbol", entry)
                made = folder / f"{entry}-{kind}.o"
                with target, tvm.transform.PassContext(opt_level=3, config=candidate.passes.context_options()):
                    tvm.compile(tvm.IRModule({entry: named}), target=target).mod.write_to_file(str(made))
                subprocess.run([*linker(), "-o", str(made.with_suffix(".so")), str(made)], check=True)
                job[kind] = str(made.with_suffix(".so"))
            turns = [(seconds_of(job["path"], job), seconds_of(job["slowed"], job)) for _ in range(5)]
            if turns[0][0] > LONGEST_S or not all(
                ABOUT[0] < slowed_s / first_s < ABOUT[1] for first_s, slowed_s in turns
            ):
                continue
            job["copy"] = str(folder / f"{entry}-copy.so")  # the same code, elsewhere in memory
            shutil.copyfile(job["path"], job["copy"])
            jobs.append(job)
            found += 1
        print(f"{work.name}: {found} kernels")
    (folder / "jobs.json").write_text(json.dumps(jobs, indent=1))


def compare(folder: Path, kind: str, count: int, seconds: float, threads: int, budget_s: float) -> None:
    from tuner.experiment.compare import PROCESSES
    from tuner.measure.contest import thread_env
    from tuner.measure.kernel import KernelBench
    from tuner.measure.pooled import compare as verdict_of
    from tuner.measure.pooled import pool_all
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
            shadows: list[list] = [[] for _ in jobs]
            for process in range(PROCESSES):
                bench.renew()
                for number, job in enumerate(jobs):
                    rival = {**job, "path": job["copy" if kind == "aa" else "slowed"]}
                    measured, shadow = bench.side_by_side([job, rival], CERTIFY, budget_s, seed=done + process)
                    found[number].append(measured)
                    shadows[number].append(shadow)
            for number, job in enumerate(jobs[: count - done]):
                ours, theirs = pool_all(found[number], shadows[number], "once")
                verdict = verdict_of(theirs, ours)  # the rival against the incumbent
                row = {
                    "kernel": job["name"], "label": verdict.label.value, "ratio": verdict.ratio,
                    "interval": verdict.interval, "floor": ours.conditions.get("aa_floor"),
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
