"""What a cache line costs that two CPUs share, in each state of the machine. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tuner.measure.states import states_of

HERE = Path(__file__).parent
KIBIBYTES = (100, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    first, second, *_ = sorted(os.sched_getaffinity(0))
    compiler = next(path for name in ("cc", "gcc", "clang") if (path := shutil.which(name)))
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/lines"
        subprocess.run([compiler, "-O2", "-march=native", "-pthread", "-o", program, str(HERE / "lines.c")], check=True)
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            for size in KIBIBYTES:
                done = subprocess.run(
                    [program, str(size), str(first), str(second)], check=True, capture_output=True, text=True
                )
                found.append({"kibibytes": size, **json.loads(done.stdout)})
            time.sleep(0.5)
    states = states_of([1e-9 * f["round_trip_ns"] for f in found])
    table: dict[str, Any] = {}
    for state in sorted({states.of(1e-9 * f["round_trip_ns"]) for f in found}):
        for size in KIBIBYTES:
            these = [f for f in found if f["kibibytes"] == size and states.of(1e-9 * f["round_trip_ns"]) is state]
            row = {key: round(statistics.median(f[key] for f in these), 2) for key in these[0] if key != "kibibytes"}
            table[f"{state}, {size} KiB"] = {"runs": len(these), **row}
    arguments.out.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
