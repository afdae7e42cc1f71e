"""Opens damaged files by the thousand, in a child with limited memory and a watched clock.

The outcome of each must be success or a TunerError. Anything else is a defect: another exception, a signal, memory
beyond the limit, or no outcome in time. The child goes on after an exception; after anything else a new one is started.
"""

from __future__ import annotations

import collections
import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.fuzzing.base import ROOT, Refused
from tests.fuzzing.entry_points import ENTRY_POINTS, HARMFUL_SAMPLES
from tests.fuzzing.mutants import mutant
from tuner.errors import TunerError

_ALL = {**ENTRY_POINTS, **HARMFUL_SAMPLES}
MEMORY_BYTES = 3 << 30
"""Address space that opening one file may add to what the child had when all whole samples had been opened."""
DEADLINE_S = 60.0
"""A child that reports nothing for so long hangs. Generous: the machine may be busy."""

LONGEST_MESSAGE = 2000
"""Characters of the longest error message that a person will read."""


class Defect(NamedTuple):
    """Harm that a damaged file did; `mutant` is the number of the file."""

    mutant: int
    what: str
    details: str


@dataclass
class Tally:
    """What became of the mutants of one entry point. `slowest_s` is CPU time."""

    entry_point: str
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    defects: list[Defect] = field(default_factory=list)
    slowest_s: float = 0.0
    most_bytes: int = 0

    def __str__(self) -> str:
        counted = ", ".join(f"{number} {name}" for name, number in self.outcomes.most_common())
        return (
            f"{self.entry_point}: {counted}; slowest {self.slowest_s:.2f} s, memory +{self.most_bytes / 2**20:.0f} MiB"
        )


def hunt(
    entry_points: Sequence[str],
    count: int,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    deadline_s: float = DEADLINE_S,
) -> list[Tally]:
    """Open `count` mutants of the files of each entry point, alternately. The same seed gives the same mutants."""
    tallies, first, last = [Tally(entry_point) for entry_point in entry_points], 0, count * len(entry_points)
    while first < last:
        first = _one_child(tallies, first, last, seed, memory_bytes, deadline_s)
    return tallies


def _one_child(tallies: Sequence[Tally], first: int, last: int, seed: int, memory_bytes: int, deadline_s: float) -> int:
    """Run a child from mutant `first` on; returns the number after the last one it opened."""
    reading, writing = os.pipe()
    order = [[tally.entry_point for tally in tallies], seed, first, last, memory_bytes, writing]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzzing.hunt", json.dumps(order)],
            cwd=ROOT, pass_fds=[writing], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        now, hung = first - 1, False
        with os.fdopen(reading, "rb") as pipe, selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not hung:
                patience_s = DEADLINE_S if now < first else deadline_s  # it imports a lot before it begins
                hung = not any(selector.select(patience_s / 2) for _ in range(2))  # twice: all may have been stopped
                line = b"" if hung else pipe.readline()  # whole lines are written at once
                if not line:
                    break
                report = json.loads(line)
                if "begin" in report:
                    now = int(report["begin"])
                else:
                    _note(tallies[now % len(tallies)], report, now)
        if hung:
            child.kill()
        code = child.wait()
        if now == last:
            return last
        log.seek(0)
        words = log.read()[-2000:].decode(errors="replace")
    if now < first:
        raise RuntimeError(f"the child did not get ready (exit code {code}): {words}")
    what = "no outcome in time" if hung else f"the process ended with code {code}"
    _note(tallies[now % len(tallies)], {"outcome": "defect", "what": what, "details": words}, now)
    return now + 1


def _note(tally: Tally, report: Mapping[str, Any], now: int) -> None:
    tally.outcomes[report["outcome"]] += 1
    tally.slowest_s = max(tally.slowest_s, report.get("seconds", 0.0))
    tally.most_bytes = max(tally.most_bytes, report.get("bytes", 0))
    if report["outcome"] == "defect":
        tally.defects.append(Defect(now, report["what"], report["details"]))


# --- in the child --------------------------------------------------------------------------------


def mutated(entry_points: Sequence[str], seed: int, number: int) -> tuple[str, str, bytes]:
    """Whose file mutant `number` damages, which one, and its damaged content."""
    entry_point, turn = entry_points[number % len(entry_points)], number // len(entry_points)
    files = _ALL[entry_point].files()
    name = sorted(files)[turn % len(files)]
    return entry_point, name, mutant(files[name], f"{seed}/{entry_point}/{turn}")


def _serve(entry_points: Sequence[str], seed: int, first: int, last: int, memory_bytes: int, pipe: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tuner-fuzz-") as scratch:
        for entry_point in entry_points:
            for name, content in _ALL[entry_point].files().items():
                folder = _laid_out(entry_point, Path(scratch, "whole"), name, content)
                _ALL[entry_point].open(folder, name)  # whole files must be accepted, or nothing is tested
        allowed = _address_space() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in range(first, last):
            entry_point, name, content = mutated(entry_points, seed, number)
            folder = _laid_out(entry_point, Path(scratch, "mutant"), name, content)
            os.write(pipe, json.dumps({"begin": number}).encode() + b"\n")
            os.write(pipe, json.dumps(_outcome(entry_point, folder, name)).encode() + b"\n")
        os.write(pipe, json.dumps({"begin": last}).encode() + b"\n")


def _outcome(entry_point: str, folder: Path, name: str) -> dict[str, Any]:
    before, report = time.process_time(), {}
    high_water = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        _ALL[entry_point].open(folder, name)
        outcome = "accepted"
    except (TunerError, Refused) as error:
        outcome = "refused" if len(str(error)) < LONGEST_MESSAGE else "defect"
        report = {"what": "a message without end", "details": str(error)[:300]}
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what this looks for
        outcome = "defect"
        report = {"what": f"{type(error).__name__}: {error}"[:300], "details": traceback.format_exc()[-2500:]}
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - high_water) * 1024
    return {"outcome": outcome, "seconds": time.process_time() - before, "bytes": grown, **report}


def _laid_out(entry_point: str, folder: Path, name: str, content: bytes) -> Path:
    """A folder with the entry point's files, all whole but one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for other, whole in _ALL[entry_point].files().items():
        (folder / other).write_bytes(content if other == name else whole)
    return folder


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    _serve(*json.loads(sys.argv[1]))
