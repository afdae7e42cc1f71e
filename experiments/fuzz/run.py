"""Opens damaged files at each door of the program: 10,000 of them unless told otherwise.

Usage: python experiments/fuzz/run.py [--door NAME ...] [--count N] [--seed N] [--keep DIR]. A summary per door, then
each finding with the number of its mutant; --keep writes those mutants to a folder. Exit code 1 when there are any.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzzing.entry_points import ENTRY_POINTS
from tests.fuzzing.hunt import Tally, hunt, mutated


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--door", action="append", choices=sorted(ENTRY_POINTS), help="only this one; may be repeated")
    parser.add_argument("--count", type=int, default=10_000, help="mutants a door (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the mutants that were findings here")
    arguments = parser.parse_args()
    found = 0
    for entry_point in arguments.entry_point or ENTRY_POINTS:
        began = time.monotonic()
        [tally] = hunt([entry_point], arguments.count, arguments.seed)
        print(f"{tally} ({time.monotonic() - began:.0f} s)", flush=True)
        _tell(tally, arguments.seed, arguments.keep)
        found += len(tally.findings)
    return 1 if found else 0


def _tell(tally: Tally, seed: int, keep: Path | None) -> None:
    for finding in tally.findings:
        print(f"\n{tally.entry_point}, mutant {finding.mutant}: {finding.what}\n{finding.details}", flush=True)
        if keep:
            _, name, content = mutated([tally.entry_point], seed, finding.mutant)
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{tally.entry_point}-{finding.mutant}-{name}").write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
