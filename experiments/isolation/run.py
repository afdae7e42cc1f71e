"""What it costs to run kernels in a disposable child instead of in the process that searches.

    python experiments/isolation/run.py [--candidates 24] [--rounds 3] [--out results/...json]

The same built candidates are checked and timed by the same service: called directly in a fresh process, and through
`KernelBench` in its child. The two take turns. Making the child and its pinning are counted; importing TVM is not, on
either side: the warm process that children are forked from is there for the builds anyway.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def jobs_of(names: list[str], count: int, threads: int, folder: Path) -> list[dict]:
    """Built candidates of each workload, in turn, with their references."""
    from experiments.throughput.run import WORKLOADS
    from kernels.passes import PASSES
    from tuner.config import TargetConfig
    from tuner.devices.cpu import CPU
    from tuner.devices.cpu.bench import job_of
    from tuner.devices.resolve import resolve
    from tuner.protocols import Artifact, Task

    target = resolve(TargetConfig(threads=threads)).text
    builder = CPU.builder(target, folder / "built", len(os.sched_getaffinity(0)), 60.0)
    jobs = []
    try:
        for name in names:
            task = Task(WORKLOADS[name](), target)
            candidates = builder.space(task, tuple(PASSES)).initial_candidates()[:count]
            found = builder.reference(task, [0, 1], folder)
            for built in builder.build(task, candidates):
                if isinstance(built, Artifact):
                    inputs, outputs = task.workload.inputs, task.workload.outputs
                    jobs.append(job_of(built, task.key, inputs, outputs, 0, found[0], (1, found[1])))
    finally:
        builder.close()
    return jobs


def in_process(jobs: list[dict], threads: int) -> dict:
    from tuner.devices.cpu.bench import KernelService
    from tuner.protocols import SCREEN
    from tuner.records import Measurement

    began = time.perf_counter()
    service = KernelService("hot", threads)
    policy = dataclasses.asdict(SCREEN)
    found = [Measurement.from_json(service.op_run(job, policy)) for job in jobs]
    return _result(began, found)


def isolated(jobs: list[dict], threads: int) -> dict:
    from tuner.devices.cpu.bench import KernelBench
    from tuner.process.pinning import thread_env
    from tuner.process.worker import Child
    from tuner.protocols import SCREEN

    with Child("tuner.devices.cpu.bench:KernelService", {"mode": "hot", "threads": 1}) as child:
        child.call("health", 60, job=None)  # starts the warm process
    began = time.perf_counter()
    bench = KernelBench("hot", threads, thread_env(threads), 20.0)
    found = [bench.measure(job, SCREEN) for job in jobs]
    result = _result(began, found)
    bench.close()
    return result


def restarts(jobs: list[dict], threads: int) -> dict:
    """As `isolated`, with a child that is killed after each candidate: what a failure costs."""
    from tuner.devices.cpu.bench import KernelBench
    from tuner.process.pinning import thread_env
    from tuner.protocols import SCREEN

    bench = KernelBench("hot", threads, thread_env(threads), 20.0)
    found = [bench.measure(jobs[0], SCREEN)]
    began = time.perf_counter()
    for job in jobs:
        found.append(bench.measure(job, SCREEN))
        bench._supervisor.replace()  # noqa: SLF001
    result = _result(began, found[1:])
    bench.close()
    return result


SIDES = {"in process": in_process, "isolated": isolated, "isolated, all fail": restarts}


def _result(began: float, found: list) -> dict:
    seconds = time.perf_counter() - began
    assert all(m.ok for m in found), [m.reason for m in found if not m.ok]
    return {"seconds": seconds, "each_s": seconds / len(found), "medians_s": [m.median_s for m in found]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=24, help="of each workload")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tasks", nargs="+", default=["conv", "matmul"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        from kernels.metaschedule import meta_schedule

        meta_schedule()
        print("RESULT " + json.dumps(SIDES[args.one](json.loads(args.jobs.read_text()), args.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        jobs = jobs_of(args.tasks, args.candidates, args.threads, Path(folder))
        listed = Path(folder, "jobs.json")
        listed.write_text(json.dumps(jobs))
        found: dict[str, list[dict]] = {side: [] for side in SIDES}
        for number in range(args.rounds):
            for side in sorted(SIDES, reverse=bool(number % 2)):
                found[side].append(_one(side, listed, args.threads))
                print(f"round {number}, {side}: {1e3 * found[side][-1]['each_s']:.1f} ms a candidate", flush=True)
    each = {side: statistics.median(f["each_s"] for f in rounds) for side, rounds in found.items()}
    medians = {
        side: [statistics.median(times) for times in zip(*(f["medians_s"] for f in rounds), strict=True)]
        for side, rounds in found.items()
    }
    same = [b / a for a, b in zip(medians["in process"], medians["isolated"], strict=True)]
    print(f"{len(jobs)} candidates; isolated over in process: {each['isolated'] / each['in process']:.3f}")
    print(f"a failure costs {1e3 * (each['isolated, all fail'] - each['isolated']):.0f} ms more")
    print(f"kernel times in the two: median ratio {statistics.median(same):.3f}, {min(same):.3f} to {max(same):.3f}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def _one(side: str, jobs: Path, threads: int) -> dict:
    from tuner.process.pinning import thread_env

    command = [sys.executable, __file__, "--one", side, "--jobs", str(jobs), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | thread_env(threads))
    if done.returncode:
        sys.exit(done.stderr)
    [line] = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
    return json.loads(line[7:])


if __name__ == "__main__":
    main()
