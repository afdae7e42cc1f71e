"""The hostile suite in its long form: does anything that a candidate does outlive it?

    python experiments/hostile/run.py [--restarts 1000] [--rounds 3] [--deaths 20] [--out results/...json]

The cases of tests/tuner/process/test_hostile.py in random order, with a good kernel between; those that tests do
not dare (an unbounded fork bomb, 20 GB that are written to); restarts by crash; and searches whose parent is killed at
random moments.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.tuner import hostile_kernels, processes  # noqa: E402
from tests.tuner.hostile_bed import POLICY, Bed, make_bed  # noqa: E402
from tests.tuner.hostile_kernels import FAILED, LATE, Hostile  # noqa: E402

UNBOUNDED = (
    Hostile("fork_for_ever", "for (;;) fork();", LATE),
    Hostile(  # the compiler must not see that nobody reads it, or it leaves all of it out
        "fill_20_gb",
        'char *p = malloc(20ul << 30); memset(p, 1, 20ul << 30); __asm__ volatile("" : : "r"(p) : "memory");',
        FAILED,
        "SIGSEGV",
    ),
    Hostile(
        "fill_all_memory",
        "for (;;) { char *p = malloc(1 << 20); if (p) memset(p, 1, 1 << 20); }",
        LATE,
    ),
    Hostile("leak_all_files", "for (;;) dup(1);", LATE),
)


def run_interleaved(bed: Bed, rounds: int) -> dict:
    """Every case `rounds` times in random order. Peak figures are of the whole machine, sampled by nobody else."""
    rng = random.Random(0)
    cases = [case for case in (*hostile_kernels.CASES, *UNBOUNDED) for _ in range(rounds)]
    rng.shuffle(cases)
    wrong, seconds = [], {}
    for case in cases:
        began = time.monotonic()
        found = bed.bench.measure(bed.hostile(case.name), POLICY)
        seconds.setdefault(case.name, []).append(time.monotonic() - began)
        if found.status is not case.status or case.says not in found.reason:
            wrong.append([case.name, found.status, found.reason])
        healthy = bed.bench.measure(bed.good, POLICY)
        if not healthy.ok:
            wrong.append([case.name, "the next candidate", healthy.status, healthy.reason])
    return {"cases": len(cases), "wrong": wrong, "seconds": {k: statistics.median(v) for k, v in seconds.items()}}


def state() -> dict:
    below = processes.descendants(os.getpid())
    [server] = [p for p in below if processes.parent(p) == os.getpid() and _is_server(p)]
    return {
        "descriptors": processes.descriptors(),
        "descriptors of the fork server": processes.descriptors(server),
        "processes": len(below),
        "temporary files": sum(1 for _ in Path(tempfile.gettempdir()).iterdir()),
        "own MiB": processes.resident_bytes(os.getpid()) >> 20,
        "fork server's MiB": processes.resident_bytes(server) >> 20,
    }


def _is_server(pid: int) -> bool:
    return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


def restarted(bed: Bed, count: int) -> dict:
    bed.assert_healthy()
    before, began = state(), time.monotonic()
    statuses = Counter(bed.bench.measure(bed.hostile("segfault"), POLICY).status.value for _ in range(count))
    each_s = (time.monotonic() - began) / count
    bed.assert_healthy()
    return {"statuses": statuses, "each_s": each_s, "before": before, "after": state()}


def search() -> None:
    """A parent to be killed: builds and measures until then, now and then something hostile."""
    with tempfile.TemporaryDirectory() as folder, make_bed(Path(folder)) as bed:
        from kernels.passes import PASSES
        from tests.tuner.devices.test_builder import TARGET, matmul
        from tuner.devices.cpu import CPU
        from tuner.protocols import Task

        task, builder = Task(matmul(64), TARGET), CPU.builder(TARGET, Path(folder), 2, 30.0)
        candidates = builder.space(task, tuple(PASSES)).initial_candidates()
        print("ready", flush=True)
        while True:
            builder.build(task, candidates[:6])
            bed.bench.measure(bed.good, POLICY)
            bed.bench.measure(bed.hostile(random.choice(["endless_loop", "segfault", "past_output"])), POLICY)


def killed(count: int) -> dict:
    """SIGKILL to a searching parent at random moments; how long its last process lived on. Seconds."""
    rng = random.Random(0)
    lingered = []
    for _ in range(count):
        parent = subprocess.Popen([sys.executable, __file__, "--search"], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        parent.stdout.readline()
        time.sleep(rng.uniform(0, 3))
        below = processes.descendants(parent.pid)
        parent.kill()
        began = time.monotonic()
        gone = processes.within(20, lambda below=below: not [p for p in below if processes.running(p)])
        lingered.append(time.monotonic() - began if gone else float("inf"))
        parent.wait()
    return {"deaths": count, "longest_s": max(lingered, default=0.0), "median_s": statistics.median(lingered or [0.0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search:
        search()
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder, make_bed(Path(folder), UNBOUNDED) as bed:
        found["in turn"] = run_interleaved(bed, args.rounds)
        print("in turn", json.dumps(found["in turn"]), flush=True)
        found["restarts"] = restarted(bed, args.restarts)
        print("restarts", json.dumps(found["restarts"]), flush=True)
    found["parent killed"] = killed(args.deaths)
    print("parent killed", json.dumps(found["parent killed"]))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
