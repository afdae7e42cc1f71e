"""How many ways of writing tensor computations are recognized, what near misses become, and what broken IR does.

python experiments/raising/run.py variants|traps|fuzz|compilers [--count N] [--seed S] [--clang COMMAND] -o FILE.json
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from kernels.raising import ir
from kernels.raising.findings import Analysis, analyse
from tests.kernels.raising.mlir.modules import FORMS
from tests.kernels.raising.mutants import mutant
from tests.kernels.raising.near_misses import SOURCE, traps
from tests.kernels.raising.variants import Variant, source, variants
from tuner.importers.c_source import ir_of
from tuner.process.limits import Limits
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

LEVELS = ("-O0", "-O1", "-O2")
PARTS = {
    "softmax": ("elementwise", "reduction"), "layer norm": ("elementwise", "reduction"),
    "scan": ("copy", "elementwise"),
}  # fmt: skip
"""What is left of patterns where a compiler has taken an iteration out of a loop: right names of parts."""

_CALL_S = 30.0
_LONG_S = 0.03


def recognized() -> dict[str, Any]:
    """Every variant at every level: recognized, left alone, or mislabelled; seconds of CPU a function."""
    return {"variants": len(variants()), "levels": {level: _at_level(level, ir_of) for level in LEVELS}}


def by_compilers(commands: Sequence[str], output: Path | None) -> dict[str, Any]:
    """The same by several clangs, each a command line. What `output` has of one is not done again."""
    state = json.loads(output.read_text()) if output is not None and output.exists() else {}
    known = dict(state.get("compilers", {})) if state.get("variants") == len(variants()) else {}
    result = {"variants": len(variants()), "compilers": known}
    for command in map(shlex.split, commands):
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"clang version (\S+)", said)
        name = f"clang {found[1] if found else said.splitlines()[0]}"
        levels = known.setdefault(name, {})
        for level in LEVELS:
            if level not in levels:
                levels[level] = _at_level(level, functools.partial(_compiled, command))
                print(name, level, levels[level], file=sys.stderr, flush=True)
                if output is not None:
                    output.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _compiled(command: Sequence[str], file: Path, level: str) -> str:
    output = file.with_suffix(".ll")
    flags = [level, "-fno-vectorize", "-fno-slp-vectorize", "-fno-unroll-loops", "-fno-sanitize=undefined"]
    subprocess.run([*command, "-S", "-emit-llvm", "-g", "-w", *flags, str(file), "-o", str(output)], check=True)
    return output.read_text("utf-8", "replace")


def _at_level(level: str, compiled: Callable[[Path, str], str | bytes]) -> dict[str, Any]:
    every = variants()
    counts: Counter[str] = Counter()
    seconds: list[float] = []
    left: dict[str, str] = {}
    for start in range(0, len(every), 60):
        counts += _recognized(every[start : start + 60], level, seconds, left, compiled)
    ordered = sorted(seconds)
    return {
        **counts, "cpu_ms_median": 1e3 * ordered[len(ordered) // 2],
        "cpu_ms_99": 1e3 * ordered[len(ordered) * 99 // 100], "cpu_ms_most": 1e3 * ordered[-1],
        "left_alone_as": left,
    }  # fmt: skip


def _recognized(
    some: Sequence[Variant], level: str, seconds: list[float], left: dict[str, str],
    compiled: Callable[[Path, str], str | bytes],
) -> Counter[str]:  # fmt: skip
    counts: Counter[str] = Counter()
    by_name = {variant.name: variant for variant in some}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "variants.c")
        file.write_text(source(list(some)))
        functions = ir.read(compiled(file, level))
    for function in functions:
        analysis, spent = _timed(function)
        seconds.append(spent)
        patterns = {f.pattern for f in analysis.findings if f.pattern}
        reasons = sorted({f.reason for f in analysis.findings if f.reason})
        wanted = by_name[function.name].patterns
        if patterns - wanted <= {part for whole in wanted for part in PARTS.get(whole, ())} and patterns - wanted:
            counts["in_parts"] += 1
            left[function.name] = f"in parts: {', '.join(sorted(patterns))}"
        elif patterns - wanted:
            counts["mislabelled"] += 1
            left[function.name] = f"taken for {', '.join(sorted(patterns))}"
        elif reasons or patterns != wanted:
            counts["left_alone"] += 1
            left[function.name] = ", ".join(reasons)
        else:
            counts["recognized"] += 1
    return counts


def _timed(function: ir.Function) -> tuple[Analysis, float]:
    """The findings, and the seconds of CPU: the least of three where it took long, since others use the machine."""
    least = float("inf")
    for _ in range(3):
        began = time.process_time()
        analysis = analyse(function)
        least = min(least, time.process_time() - began)
        if least < _LONG_S:
            break
    return analysis, least


def near_misses() -> dict[str, Any]:
    """Every trap at every level: left alone for a right reason, for another one, or labelled."""
    wanted = traps()
    result: dict[str, Any] = {"traps": len(wanted), "levels": {}}
    for level in LEVELS:
        counts: Counter[str] = Counter()
        for function in ir.read(ir_of(SOURCE, level)):
            trap = wanted.get(function.name)
            if trap is None or (trap.plain and level != "-O0"):
                continue
            findings = analyse(function).findings
            patterns = {f.pattern for f in findings if f.pattern}
            reasons = {f.reason for f in findings if f.reason}
            wrong = patterns - trap.but
            counts["labelled" if wrong else "right_reason" if reasons & trap.reasons else "other_reason"] += 1
        result["levels"][level] = dict(counts)
    return result


def fuzzed(count: int, seed: int, output: Path | None) -> dict[str, Any]:
    """Mutants of IR and of MLIR, read in a confined child: findings, a typed error, or the child's death (which is
    one, too). Each has a seed of its own, and `output` is written every hundred: what is in it is not done again.
    """
    state = json.loads(output.read_text()) if output is not None and output.exists() else {}
    if state.get("seed") != seed:
        state = {}
    counts: Counter[str] = Counter(state.get("counts", {}))
    unknown: list[str] = list(state.get("others", []))
    done, before = int(state.get("done", 0)), float(state.get("minutes", 0.0))
    began = time.monotonic()

    def result(number: int) -> dict[str, Any]:
        minutes = before + (time.monotonic() - began) / 60
        return {"count": count, "seed": seed, "done": number, **counts, "counts": dict(counts), "minutes": minutes,
                "others": unknown[:20]}  # fmt: skip

    with tempfile.TemporaryDirectory() as scratch:
        texts = _modules(Path(scratch))
        child: Child | None = None
        for number in range(done, count):
            if number % 100 == 99 and output is not None:
                output.write_text(json.dumps(result(number), indent=1) + "\n")
            if number % 500 == 499:
                print(f"{number + 1} of {count}: {dict(counts)}", file=sys.stderr, flush=True)
            rng = random.Random(f"{seed}/{number}")
            name, text = rng.choice(texts)
            file = Path(scratch, f"mutant{name}")
            file.write_text(mutant(text, rng))
            if child is None or not child.alive():
                child = Child("tuner.importers.llvm_service:LlvmService", limits=_limits())
            try:
                found = child.call("scan", _CALL_S, path=str(file))
                counts["findings" if found else "nothing"] += 1
            except ChildError as error:
                counts[error.kind] += 1
                if error.kind not in ("MalformedIr", "ModelError"):
                    unknown.insert(0, f"{error} {error.details[-600:]}")
            except ChildTimeout:
                counts["timeout"] += 1
            except ChildDied as error:
                counts["died"] += 1
                unknown.append(str(error)[:300])
        if child is not None:
            child.close()
    return result(count)


def _limits() -> Limits:
    return Limits(memory_bytes=4 << 30, file_bytes=1 << 30, open_files=256, may_fork=False, may_leave=False)


def _modules(scratch: Path) -> list[tuple[str, str]]:
    """Small modules, one function each, with how their files' names end."""
    some = variants()[::23]
    texts: list[tuple[str, str]] = []
    for number, variant in enumerate(some):
        file = scratch / f"v{number}.c"
        file.write_text(source([variant]))
        content = ir_of(file, LEVELS[number % len(LEVELS)])
        texts.append((".ll", content if isinstance(content, str) else content.decode()))
    return [*texts, *((".mlir", form.text) for form in FORMS.values())]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("variants", "traps", "fuzz", "compilers"))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--clang", action="append", default=[], metavar="COMMAND", help="for compilers, again and again"
    )
    parser.add_argument("-o", dest="output", default="")
    chosen = parser.parse_args(arguments)
    if chosen.what == "fuzz":
        result = fuzzed(chosen.count, chosen.seed, Path(chosen.output) if chosen.output else None)
    elif chosen.what == "compilers":
        result = by_compilers(chosen.clang, Path(chosen.output) if chosen.output else None)
    else:
        result = recognized() if chosen.what == "variants" else near_misses()
    text = json.dumps(result, indent=1)
    if chosen.output:
        Path(chosen.output).parent.mkdir(parents=True, exist_ok=True)
        Path(chosen.output).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
