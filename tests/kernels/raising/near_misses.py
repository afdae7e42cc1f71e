"""The functions of traps.c, each with the reasons for which it is left alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "traps.c"

_TRAP = re.compile(
    r"// leave(?P<plain> at -O0)?: (?P<reasons>[\w,-]+)(?:; but: (?P<but>[\w,]+))?\n[^;{(]*?(?P<name>\w+)\(",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Trap:
    """`but`: patterns that may be found beside the reason. `plain`: a trap only where nothing was optimised."""

    reasons: frozenset[str]
    but: frozenset[str]
    plain: bool


def traps() -> dict[str, Trap]:
    return {
        found["name"]: Trap(
            frozenset(found["reasons"].split(",")), frozenset((found["but"] or "").split(",")) - {""},
            bool(found["plain"]),
        )
        for found in _TRAP.finditer(SOURCE.read_text("utf-8"))
    }  # fmt: skip
