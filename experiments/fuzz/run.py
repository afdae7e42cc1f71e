"""Opens damaged files at each entry point of the program: 10,000 of them at each unless told otherwise.

Usage: python experiments/fuzz/run.py [--entry-point NAME ...] [--count N] [--seed N] [--keep DIR]. A summary for each
entry point, then each defect with the number of its mutant; --keep writes those mutants to a folder. Exit code 1 when
there are any.
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
    parser.add_argument(
        "--entry-point", "--door", action="append", choices=sorted(ENTRY_POINTS), help="only this one; may be repeated"
    )
    parser.add_argument("--count", type=int, default=10_000, help="mutants at each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the mutants that were defects here")
    arguments = parser.parse_args()
    defects = 0
    for entry_point in arguments.entry_point or ENTRY_POINTS:
        began = time.monotonic()
        [tally] = hunt([entry_point], arguments.count, arguments.seed)
        print(f"{tally} ({time.monotonic() - began:.0f} s)", flush=True)
        _report(tally, arguments.seed, arguments.keep)
        defects += len(tally.defects)
    return 1 if defects else 0


def _report(tally: Tally, seed: int, keep: Path | None) -> None:
    for defect in tally.defects:
        print(f"\n{tally.entry_point}, mutant {defect.mutant}: {defect.what}\n{defect.details}", flush=True)
        if keep:
            _, name, content = mutated([tally.entry_point], seed, defect.mutant)
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{tally.entry_point}-{defect.mutant}-{name}").write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
