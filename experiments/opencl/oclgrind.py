"""Have the candidates of GPU spaces data races, or accesses out of bounds, that PoCL does not show?

python experiments/opencl/oclgrind.py [-n CANDIDATES] [--sabotaged CANDIDATES] [--json FILE] [PROGRAM ...]

It needs Oclgrind, an interpreter of OpenCL that looks at every access (Debian: oclgrind). It goes on where an earlier
call that asked for the same was ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if TYPE_CHECKING:
    from kernels.emit_gpu import GpuProgram
    from tests.kernels.opencl_ground import Case

RACE, BOUNDS = "data race", "out of bounds"

_FINDINGS = ((RACE, re.compile(r"data race at", re.I)), (BOUNDS, re.compile(r"^Invalid (?:read|write)", re.M)))
_MOST_FINDINGS = "100000000"
"""Of the whole process: it is silent after them."""

_BARRIERS = 8


def interpreter() -> Path | None:
    """Oclgrind as a driver that a loader of OpenCL can be given; None where it is not installed."""
    command = shutil.which("oclgrind")
    if command is None:
        return None
    library = Path(command).resolve().parents[1] / "lib"
    return next(iter(sorted(library.rglob("liboclgrind-rt-icd.so"))), None)


@contextlib.contextmanager
def caught_stderr(path: Path) -> Iterator[None]:
    """Writes to a file what this process, whatever its language, writes to stderr meanwhile: Oclgrind writes its
    findings there at once, and to its own log only when a buffer is full."""
    kept = os.dup(2)
    try:
        with path.open("wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Watched:
    """A ground on Oclgrind, and what it finds. The environment must name its driver before pyopencl is imported."""

    def __init__(self, log: Path) -> None:
        from tests.kernels.opencl_ground import Ground
        from tuner.devices.opencl.driver import devices

        [facts] = devices()
        self.label = facts.version
        self._log = log
        self._ground = Ground(facts.number)

    def run(self, case: Case, program: GpuProgram | None = None) -> tuple[str, Counter[str]]:
        """What is wrong with a case's outputs, or "", and how many findings there are of each kind."""
        with caught_stderr(self._log):
            wrong = self._ground.wrong(case, program)
        text = self._log.read_text("utf-8", "replace")
        return wrong, Counter({kind: len(found) for kind, words in _FINDINGS if (found := words.findall(text))})


def sabotages(case: Case) -> Iterator[tuple[str, GpuProgram]]:
    """Each sabotage that a candidate's source allows, by its name."""
    from tests.kernels.opencl_ground import overlapping_tiles, smaller_local, without_barrier, wrong_stride

    made = [("a barrier less", without_barrier(case.program, number)) for number in range(_BARRIERS)]
    strides = {spec.shape[-1] for spec in case.workload.args}
    made += [("a wrong stride", wrong_stride(case.program, stride)) for stride in sorted(strides) if stride > 1]
    made.append(("overlapping tiles", overlapping_tiles(case.program)))
    made.append(("half of the local memory", smaller_local(case.program)))
    yield from ((name, changed) for name, changed in made if changed is not None)


def executed(name: str, count: int, sabotaged: int, watched: Watched) -> dict[str, Any]:
    """The row of one program."""
    from tests.kernels.opencl_ground import cases, workload

    found: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    seen: dict[str, dict[str, int]] = {}
    total = 0
    for total, case in enumerate(cases(workload(name), count), 1):
        reason, findings = watched.run(case)
        found += findings
        if reason or findings:
            wrong[case.candidate.to_text()] = reason or ", ".join(findings)
        elif total <= sabotaged:
            for kind, program in sabotages(case):
                counts = seen.setdefault(kind, {"made": 0, "by Oclgrind": 0, "by outputs": 0, "by either": 0})
                reason, findings = watched.run(case, program)
                counts["made"] += 1
                counts["by Oclgrind"] += bool(findings)
                counts["by outputs"] += bool(reason)
                counts["by either"] += bool(reason or findings)
    return {"program": name, "executed": total, "clean": total - len(wrong), "findings": dict(found), "wrong": wrong,
            "sabotages": seen}  # fmt: skip


def summary(rows: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
    """The totals of all programs."""
    seen: dict[str, Counter[str]] = {}
    for row in rows:
        for kind, counts in row["sabotages"].items():
            seen.setdefault(kind, Counter()).update(counts)
    findings = sum((Counter(row["findings"]) for row in rows), Counter[str]())
    return {**asked, "executed": sum(row["executed"] for row in rows), "clean": sum(row["clean"] for row in rows),
            "findings": dict(findings), "sabotages": {kind: dict(counts) for kind, counts in seen.items()},
            "programs": rows}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*")
    parser.add_argument("-n", type=int, default=4, help="candidates of each program")
    parser.add_argument("--sabotaged", type=int, default=1, help="of each program's that are sabotaged, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    driver = interpreter()
    if driver is None:
        parser.error("missing here: Oclgrind (Debian: apt install oclgrind)")
    with tempfile.TemporaryDirectory(prefix="oclgrind-") as folder:
        log = Path(folder) / "findings"
        os.environ |= {
            "OCL_ICD_VENDORS": str(driver), "OCLGRIND_DATA_RACES": "1",
            "OCLGRIND_MAX_ERRORS": _MOST_FINDINGS, "PYOPENCL_NO_CACHE": "1",
        }  # fmt: skip
        from tests.kernels.opencl_ground import GROUND

        watched = Watched(log)
        asked = {"device": watched.label, "candidates": arguments.n, "sabotaged": arguments.sabotaged}
        earlier = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
        rows = earlier["programs"] if {**earlier, **asked} == earlier else []
        done = {row["program"] for row in rows}
        for name in (name for name in arguments.programs or GROUND if name not in done):
            rows.append(executed(name, arguments.n, arguments.sabotaged, watched))
            print(json.dumps(rows[-1]), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(summary(rows, asked), indent=1) + "\n")


if __name__ == "__main__":
    main()
