"""How often do verdicts err? A/A comparisons of real kernels, and kernels that do 5 % more work.

A slowed kernel is the same machine code, called 21 times where the other is called 20 times: 5 % more work, whatever a
compiler or a cache makes of it.

    python experiments/verdicts/run.py build FOLDER
    python experiments/verdicts/run.py aa FOLDER [--count 200] [--seconds 200]
    python experiments/verdicts/run.py slow FOLDER [--count 100] [--seconds 200]
    python experiments/verdicts/run.py report FOLDER

With `--mode model` each call of a library, twenty of the kernel, takes another copy of the weight; the rows go to
files of their own.

`aa` and `slow` continue where an earlier call ended, and stop after `--seconds`; run them on an idle machine.
Comparisons are those of `python -m tuner compare`: five fresh processes, in each both kernels and the first one's A/A
control interleaved. To save starting so many, a process serves all kernels, one after another, as in the certification
of a run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import cpu_target
from experiments.one_task import opened
from experiments.verdicts.kernels import Compared, build, read
from tuner.commands.compare import PROCESSES
from tuner.measure.pooled import compare_measurements, pool_session
from tuner.protocols import CERTIFY, AaControl, Bench
from tuner.records import Measurement

Mode = Literal["model", "hot", "cold"]

COUNTS = {"aa": 200, "slow": 100}


def rows_file(folder: Path, kind: str, mode: str) -> Path:
    return folder / (f"{kind}.jsonl" if mode == "hot" else f"{kind}-{mode}.jsonl")


def compare(folder: Path, kind: str, mode: Mode, count: int, seconds: float, threads: int, budget_s: float) -> None:
    """Compare all kernels again and again, until there are `count` comparisons or the seconds are over."""
    kernels, out = read(folder), rows_file(folder, kind, mode)
    done = len(out.read_text().splitlines()) if out.exists() else 0
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as work, opened(cpu_target(threads), Path(work), mode) as device:
        while done < count and time.monotonic() < deadline:
            rows = compare_all(kernels, kind, device.bench, budget_s, seed=done)[: count - done]
            with open(out, "a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            done += len(rows)
    print(f"{kind}: {done} of {count} done")


def compare_all(
    kernels: Sequence[Compared], kind: str, bench: Bench, budget_s: float, seed: int
) -> list[dict[str, Any]]:
    """One comparison of each kernel with its other library, as rows of the file."""
    began = time.monotonic()
    measured: list[list[Sequence[Measurement]]] = [[] for _ in kernels]
    controls: list[list[AaControl | None]] = [[] for _ in kernels]
    for process in range(PROCESSES):
        bench.renew()
        for number, kernel in enumerate(kernels):
            jobs = [kernel.job, kernel.against(kernel.copy if kind == "aa" else kernel.slowed)]
            pair, control = bench.measure_interleaved(jobs, CERTIFY, budget_s, seed=seed + process)
            measured[number].append(pair)
            controls[number].append(control)
    seconds = (time.monotonic() - began) / len(kernels)
    results = zip(kernels, measured, controls, strict=True)
    return [
        {**row(kernel.name, *pool_session(pairs, control, "once")), "budget_s": budget_s, "seconds": seconds}
        for kernel, pairs, control in results
    ]


def row(name: str, first: Measurement, second: Measurement) -> dict[str, Any]:
    """The verdict on the second of two libraries, against the first."""
    verdict = compare_measurements(second, first)
    return {
        "kernel": name, "label": verdict.label.value, "ratio": verdict.ratio, "interval": verdict.interval,
        "floor": first.conditions.aa_floor, "pairs": len(second.samples_s),
        "median_s": first.median_s if first.ok else None, "load": os.getloadavg()[0],
        "status": [first.status.value, second.status.value], "reason": first.reason or second.reason,
    }  # fmt: skip


def report(folder: Path, mode: str) -> Iterator[str]:
    for kind in COUNTS:
        path = rows_file(folder, kind, mode)
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if rows:
            yield from _lines(kind, rows)


def _lines(kind: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    floors = sorted(row["floor"] if row["floor"] is not None else math.inf for row in rows)
    yield f"{kind}: {len(rows)} comparisons, {dict(Counter(row['label'] for row in rows))}"
    yield f"  A/A floor: median {floors[len(floors) // 2]:.2%}, worst {floors[-1]:.2%}"
    yield f"  {sum(row['seconds'] for row in rows) / len(rows):.1f} s each"
    for name in dict.fromkeys(row["kernel"] for row in rows):
        own = [row for row in rows if row["kernel"] == name]
        ratios = sorted(row["ratio"] for row in own if row["ratio"] is not None)
        spread = f"{ratios[len(ratios) // 2]:.4f} ({ratios[0]:.4f} to {ratios[-1]:.4f})" if ratios else "none"
        yield f"  {name}: {len(own)}, {dict(Counter(row['label'] for row in own))}, median ratio {spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("build", *COUNTS, "report", "say"), help="`say` is `report`'s former name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--mode", choices=get_args(Mode), default="hot", help="the state of the caches (default: hot)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.6, help="seconds for one comparison in one process")
    given = parser.parse_args()
    if given.what == "build":
        build(given.folder)
    elif given.what in COUNTS:
        count = given.count or COUNTS[given.what]
        compare(given.folder, given.what, given.mode, count, given.seconds, given.threads, given.budget)
    else:
        print("\n".join(report(given.folder, given.mode)))


if __name__ == "__main__":
    main()
