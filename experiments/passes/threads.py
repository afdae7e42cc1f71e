"""Does `balance` give threads equal work? The CPU time of each thread of TVM's pool, by the kernel's accounts.

    python experiments/passes/threads.py results/<machine>/passes_threads.json [--threads 2] [--rounds 15]

Each kernel is called with and without the pass, in turn. What a thread ran is read from the system (schedstat, in
nanoseconds), with threads that sleep while they wait: so it says what a thread did, however busy the machine is. The
time of a kernel is at least that of its busiest thread.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

_CALLS = 100
_FAMILIES = ("triangle times columns, 512 x 64", "triangle times square, 256")


def ran_ns() -> dict[str, int]:
    """What each thread of this process has run so far, in nanoseconds."""
    tasks = Path("/proc/self/task")
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()}


def shares(call: Callable[[], Any], threads: int) -> list[float]:
    """Seconds of a call that each thread ran, the busiest first."""
    before = ran_ns()
    for _ in range(_CALLS):
        call()
    spent = (ran - before.get(name, 0) for name, ran in ran_ns().items())
    return [ns / 1e9 / _CALLS for ns in sorted(spent, reverse=True)[:threads]]


def measured(name: str, threads: int, rounds: int) -> dict[str, Any]:
    """The shares of the threads without the pass and with it, each the median of the rounds, and their ratio."""
    from experiments.passes.loops import Kernels, families, ratio
    from kernels.passes import PassConfig
    from kernels.space import Candidate
    from kernels.workload import from_prim_func
    from tuner.measure.stats import median

    kernels = Kernels(from_prim_func(families()[name](), "kernel"), threads)
    loops = next(sketch.number for sketch in kernels.space.sketches if sketch.rule == "loops")
    calls = {}
    for on in (0, 1):
        passes = PassConfig.from_text(f"fuse{{on=1}} bounds{{on=1}} lanes{{width=64}} balance{{on={on}}}")
        kernels.add(str(on), Candidate(loops, (), passes))
        calls[on] = kernels.call(str(on))
        calls[on]()
    taken: dict[int, list[list[float]]] = {on: [] for on in calls}
    for _ in range(rounds):
        for on, call in calls.items():
            taken[on].append(shares(call, threads))
    each = {on: [median(thread) for thread in zip(*rows, strict=True)] for on, rows in taken.items()}
    busiest = {on: [row[0] for row in rows] for on, rows in taken.items()}
    return {"without_s": each[0], "with_s": each[1], "ratio": list(ratio(busiest[0], busiest[1]))}


def rows(threads: int, rounds: int) -> Iterator[dict[str, Any]]:
    for name in _FAMILIES:
        row = {"kernel": name, "threads": threads, **measured(name, threads, rounds)}
        print(f"{name}: the busiest thread runs {row['ratio'][0]:.2f} times as long without", file=sys.stderr)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15, help="7 or more")
    arguments = parser.parse_args()
    os.environ |= {"TVM_NUM_THREADS": str(arguments.threads), "TVM_THREAD_POOL_SPIN_COUNT": "0"}
    from experiments.common import write_json

    write_json(arguments.path, list(rows(arguments.threads, arguments.rounds)))


if __name__ == "__main__":
    main()
