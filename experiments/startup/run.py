"""Seconds that commands take which must be fast: `import tuner`, `--help`, printing a configuration.

    python experiments/startup/run.py [--repeats 15]

Each is a fresh process. The bare interpreter is timed too, interleaved with the others.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import tuner": ["-c", "import tuner"],
    "tuner --help": ["-m", "tuner", "--help"],
    "tuner config": ["-m", "tuner", "config", "configs/resnet.yaml"],
    "tuner list": ["-m", "tuner", "list"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - began)
    for name, values in seconds.items():
        print(f"{name:18} median {statistics.median(values):.3f} s, slowest {max(values):.3f} s")


if __name__ == "__main__":
    main()
