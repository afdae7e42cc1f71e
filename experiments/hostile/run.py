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
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import cpu_target, write_json
from experiments.one_task import opened
from tests.tuner import hostile_kernels, processes
from tests.tuner.hostile_bed import POLICY, Bed, make_bed
from tests.tuner.hostile_kernels import FAILED, LATE, Hostile

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

HARMFUL = ("endless_loop", "segfault", "past_output")
"""Of the cases: what a search meets before its parent is killed."""


def run_interleaved(bed: Bed, rounds: int) -> dict[str, Any]:
    """Every case `rounds` times in random order, with the good kernel after each: what did not go as it should, and
    the median seconds of each case."""
    cases = [case for case in (*hostile_kernels.CASES, *UNBOUNDED) for _ in range(rounds)]
    random.Random(0).shuffle(cases)
    wrong: list[list[str]] = []
    seconds: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        began = time.monotonic()
        measurement = bed.bench.measure(bed.hostile(case.name), POLICY)
        seconds[case.name].append(time.monotonic() - began)
        if measurement.status is not case.status or case.says not in measurement.reason:
            wrong.append([case.name, measurement.status, measurement.reason])
        next_one = bed.bench.measure(bed.good, POLICY)
        if not next_one.ok:
            wrong.append([case.name, "the next candidate", next_one.status, next_one.reason])
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {"cases": len(cases), "wrong": wrong, "seconds": medians}


def resources() -> dict[str, int]:
    """What this process and the server that children are forked from hold."""
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


def restart(bed: Bed, count: int) -> dict[str, Any]:
    """So many restarts by segmentation fault: what they came to, and the resources before and after."""
    bed.assert_healthy()
    before, began = resources(), time.monotonic()
    statuses = Counter(bed.bench.measure(bed.hostile("segfault"), POLICY).status.value for _ in range(count))
    each_s = (time.monotonic() - began) / max(count, 1)
    bed.assert_healthy()
    return {"statuses": statuses, "each_s": each_s, "before": before, "after": resources()}


def search_until_killed() -> None:
    """A parent to be killed: it builds and measures until then, now and then something hostile."""
    from kernels.passes import PASSES
    from tests.tuner.devices.test_builder import matmul
    from tuner.protocols import Task

    target = cpu_target()
    with tempfile.TemporaryDirectory() as folder, make_bed(Path(folder)) as bed, opened(target, Path(folder)) as device:
        task = Task(matmul(64), target.text)
        candidates = device.builder.space(task, tuple(PASSES)).initial_candidates()
        print("ready", flush=True)
        while True:
            device.builder.build(task, candidates[:6])
            bed.bench.measure(bed.good, POLICY)
            bed.bench.measure(bed.hostile(random.choice(HARMFUL)), POLICY)


def kill_parents(count: int) -> dict[str, Any]:
    """SIGKILL to a searching parent at random moments: how long its last process lived on, in seconds."""
    rng = random.Random(0)
    lingered = [_seconds_after_death(rng.uniform(0, 3)) for _ in range(count)]
    return {"deaths": count, "longest_s": max(lingered, default=0.0), "median_s": statistics.median(lingered or [0.0])}


def _seconds_after_death(after_s: float) -> float:
    parent = subprocess.Popen([sys.executable, __file__, "--search"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    time.sleep(after_s)
    below = processes.descendants(parent.pid)
    parent.kill()
    began = time.monotonic()
    gone = processes.within(20, lambda: not any(map(processes.running, below)))
    lingered = time.monotonic() - began if gone else float("inf")
    parent.wait()
    return lingered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search:
        search_until_killed()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, make_bed(Path(folder), UNBOUNDED) as bed:
        results["interleaved"] = run_interleaved(bed, args.rounds)
        print("interleaved", json.dumps(results["interleaved"]), flush=True)
        results["restarts"] = restart(bed, args.restarts)
        print("restarts", json.dumps(results["restarts"]), flush=True)
    results["parent killed"] = kill_parents(args.deaths)
    print("parent killed", json.dumps(results["parent killed"]))
    if args.out:
        write_json(args.out, results)


if __name__ == "__main__":
    main()
