"""How many ways of writing tensor computations are recognized, what near misses become, and what broken IR does.

python experiments/raising/run.py variants|traps|fuzz [--count N] [--seed S] -o FILE.json
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels.raising import ir
from kernels.raising.findings import analyse
from tests.kernels.raising.near_misses import SOURCE, traps
from tests.kernels.raising.variants import Variant, source, variants
from tuner.importers.c_source import ir_of
from tuner.process.limits import Limits
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

LEVELS = ("-O0", "-O1", "-O2")
_CALL_S = 30.0


def recognized() -> dict[str, Any]:
    """Every variant at every level: recognized, left alone, or mislabelled; seconds of CPU a function."""
    every = variants()
    result: dict[str, Any] = {"variants": len(every), "levels": {}}
    for level in LEVELS:
        counts: Counter[str] = Counter()
        seconds: list[float] = []
        left: dict[str, str] = {}
        for start in range(0, len(every), 60):
            some = every[start : start + 60]
            counts += _recognized(some, level, seconds, left)
        ordered = sorted(seconds)
        result["levels"][level] = {
            **counts, "cpu_ms_median": 1e3 * ordered[len(ordered) // 2],
            "cpu_ms_99": 1e3 * ordered[len(ordered) * 99 // 100], "cpu_ms_most": 1e3 * ordered[-1],
            "left_alone_as": left,
        }  # fmt: skip
    return result


def _recognized(some: Sequence[Variant], level: str, seconds: list[float], left: dict[str, str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    by_name = {variant.name: variant for variant in some}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "variants.c")
        file.write_text(source(list(some)))
        functions = ir.read(ir_of(file, level))
    for function in functions:
        began = time.process_time()
        analysis = analyse(function)
        seconds.append(time.process_time() - began)
        patterns = {f.pattern for f in analysis.findings if f.pattern}
        reasons = sorted({f.reason for f in analysis.findings if f.reason})
        wanted = by_name[function.name].patterns
        if patterns - wanted:
            counts["mislabelled"] += 1
        elif reasons or patterns != wanted:
            counts["left_alone"] += 1
            left[function.name] = ", ".join(reasons)
        else:
            counts["recognized"] += 1
    return counts


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


def fuzzed(count: int, seed: int) -> dict[str, Any]:
    """Mutants of IR, read in a confined child: findings, a typed error, or the child's death (which is one, too)."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        texts = _modules(Path(scratch))
        file = Path(scratch, "mutant.ll")
        counts: Counter[str] = Counter()
        unknown: list[str] = []
        child: Child | None = None
        began = time.monotonic()
        for _ in range(count):
            file.write_text(mutant(rng.choice(texts), rng))
            if child is None or not child.alive():
                child = Child("tuner.importers.llvm_service:LlvmService", limits=_limits())
            try:
                found = child.call("scan", _CALL_S, path=str(file))
                counts["findings" if found else "nothing"] += 1
            except ChildError as error:
                counts[error.kind] += 1
                if error.kind not in ("MalformedIr", "ModelError"):
                    unknown.append(f"{error} {error.details[-600:]}")
            except ChildTimeout:
                counts["timeout"] += 1
            except ChildDied as error:
                counts["died"] += 1
                unknown.append(str(error)[:300])
        if child is not None:
            child.close()
    return {"count": count, "seed": seed, **counts, "minutes": (time.monotonic() - began) / 60, "others": unknown[:20]}


def _limits() -> Limits:
    return Limits(memory_bytes=4 << 30, file_bytes=1 << 30, open_files=256, may_fork=False, may_leave=False)


def _modules(scratch: Path) -> list[str]:
    """Small modules, one function each."""
    some = variants()[::23]
    texts = []
    for number, variant in enumerate(some):
        file = scratch / f"v{number}.c"
        file.write_text(source([variant]))
        content = ir_of(file, LEVELS[number % len(LEVELS)])
        texts.append(content if isinstance(content, str) else content.decode())
    return texts


_OTHERS = (
    "i1", "i8", "i32", "i64", "float", "double", "ptr", "<4 x float>", "[3 x i32]", "void", "undef", "poison", "null",
    "0", "1", "-1", "2147483647", "9223372036854775807", "0.0", "true", "%0", "add", "mul", "udiv", "shl", "phi", "br",
    "load volatile", "store atomic", "call", "switch", "indirectbr", "invoke", "unreachable", "getelementptr", "select",
    "freeze", "icmp ult", "fcmp une", "fadd fast", "!dbg !0", "zeroinitializer", "nsw", "inbounds", "zext", "trunc",
)  # fmt: skip


def mutant(text: str, rng: random.Random) -> str:
    """One to four changes: words exchanged, lines lost, doubled or moved, characters lost, numbers changed."""
    lines = text.splitlines()
    body = [i for i, line in enumerate(lines) if line.startswith("  ") or line.endswith(":")]
    for _ in range(rng.randint(1, 4)):
        at = rng.choice(body)
        if at >= len(lines):
            continue
        if rng.random() < 0.8:
            lines[at] = _alike(lines[at], rng)
            continue
        kind = rng.randrange(7)
        words = re.findall(r"\S+|\s+", lines[at])
        if kind == 0 and words:
            words[rng.randrange(len(words))] = rng.choice(_OTHERS)
            lines[at] = "".join(words)
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(at, lines[at])
        elif kind == 3:
            other = rng.choice(body)
            if other < len(lines):
                lines[at], lines[other] = lines[other], lines[at]
        elif kind == 4 and lines[at]:
            place = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + lines[at][place + 1 :]
        elif kind == 5:
            lines[at] = re.sub(
                r"\b\d+\b", lambda found: str(int(found[0]) + rng.choice((-1, 1, 7))), lines[at], count=1
            )
        else:
            names = re.findall(r"%[\w.]+", "\n".join(lines[max(0, at - 8) : at + 8]))
            mine = re.findall(r"%[\w.]+", lines[at])
            if names and mine:
                lines[at] = lines[at].replace(rng.choice(mine), rng.choice(names), 1)
    return "\n".join(lines)


_CLASSES = (
    ("add", "sub", "mul", "shl", "or", "and", "xor", "ashr", "lshr", "sdiv", "srem"), ("fadd", "fsub", "fmul", "fdiv"),
    ("slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge", "eq", "ne"), ("olt", "ogt", "ult", "ugt", "oeq", "une"),
    ("sext", "zext"), ("true", "false"), ("float 0.000000e+00", "float 1.000000e+00", "float undef"),
    ("load", "load volatile"), ("store", "store volatile"),
)  # fmt: skip


def _alike(line: str, rng: random.Random) -> str:
    """A change after which most modules are still IR: another operator, predicate, number or flag."""
    for some in rng.sample(_CLASSES, len(_CLASSES)):
        found = [word for word in some if re.search(rf"(?<![\w.%]){re.escape(word)}(?![\w.])", line)]
        if found:
            return re.sub(rf"(?<![\w.%]){re.escape(found[0])}(?![\w.])", rng.choice(some), line, count=1)
    if rng.random() < 0.5:
        return re.sub(r" (nuw|nsw|inbounds|nneg|fast)\b", "", line)
    number = rng.choice((-1, 0, 1, 2, 3, 255, 65536, 2**31 - 1, 2**63 - 1))
    return re.sub(r"(?<=[ ,] )-?\d+(?=[,\s]|$)|(?<=i64 )\d+", str(number), line, count=1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("variants", "traps", "fuzz"))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", dest="output", default="")
    chosen = parser.parse_args(arguments)
    if chosen.what == "fuzz":
        result = fuzzed(chosen.count, chosen.seed)
    else:
        result = recognized() if chosen.what == "variants" else near_misses()
    text = json.dumps(result, indent=1)
    if chosen.output:
        Path(chosen.output).parent.mkdir(parents=True, exist_ok=True)
        Path(chosen.output).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
