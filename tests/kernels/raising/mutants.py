"""IR that somebody broke: most of it still IR, some of it not."""

from __future__ import annotations

import random
import re

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
