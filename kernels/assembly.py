"""The machine code of a CPU kernel as text, and its innermost loop with the most arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from tvm.target import Target

from kernels.passes import Applied

_OF_TVM = ".text.tvm.fp16.conv"
"""The section after a kernel's code: conversions that TVM adds to every module."""

_LABEL = re.compile(r"^(\.?[\w.$]+):")
_BRANCH = re.compile(r"^\s*(?:j[a-z]+|b(?:\.[a-z]+)?|cbnz|cbz|tbnz|tbz)\s+(?:.*\s)?(\.L[\w.]+)\s*$")
_ARITHMETIC = re.compile(
    r"^\s*v?(?:fn?m(?:add|sub)|(?:mul|add|sub|max|min|div|dp)p|pdp|dpbf|p(?:add|mull|madd)|f(?:mla|mul|add))"
)
_DIRECTIVE = re.compile(r"^\s*\.(?!L)")


def assembly(applied: Applied, target: Mapping[str, Any]) -> str:
    """The code of a CPU kernel, without directives and debug information. `target` is that of the kernel, as data.

    Raises RuntimeError or ValueError where the program cannot be built.
    """
    own = Target(applied.passes.target_options(dict(target)))
    options = {**applied.passes.context_options(), "tirx.disable_assert": True}
    with own, tvm.transform.PassContext(opt_level=3, config=options):
        library = tvm.compile(tvm.IRModule({"main": applied.function.with_attr("global_symbol", "main")}), target=own)
    lines = library.mod.inspect_source("asm").partition(_OF_TVM)[0].splitlines()
    kept = [line.expandtabs(4).rstrip() for line in lines if line.strip() and not _DIRECTIVE.match(line)]
    targets = {match[1] for line in kept if (match := _BRANCH.match(line))}
    return "\n".join(line for line in kept if not _is_unused(line, targets))


def _is_unused(line: str, targets: set[str]) -> bool:
    label = _LABEL.match(line)
    return label is not None and label[1].startswith(".L") and label[1] not in targets


def hot_loop(code: str) -> str:
    """The innermost loop that has the most vector arithmetic; "" without loops."""
    lines = code.splitlines()
    labels = {match[1]: number for number, line in enumerate(lines) if (match := _LABEL.match(line))}
    loops = []
    for number, line in enumerate(lines):
        match = _BRANCH.match(line)
        begin = labels.get(match[1]) if match else None
        if begin is not None and begin < number:
            loops.append((begin, number + 1))
    innermost = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not innermost:
        return ""
    begin, end = max(innermost, key=lambda loop: (_arithmetic(lines[slice(*loop)]), loop[0] - loop[1]))
    return "\n".join(lines[begin:end])


def _arithmetic(lines: Sequence[str]) -> int:
    return sum(_ARITHMETIC.match(line) is not None for line in lines)
