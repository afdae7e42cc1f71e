"""What of a definition a C program on this machine cannot call, and what machine it was compiled for."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence

from kernels.raising.reasons import MalformedIr

_NARROW = re.compile(
    r"i[3-7]86|arm(?!64)|thumb|mips(?!64)|powerpc(?!64)|ppc(?!64)|riscv32|sparc(?!v9)|wasm32|nvptx(?!64)|r600"
)
_OTHER_SYSTEM = re.compile(r"windows|darwin|macos|ios|uefi|cygwin|mingw|msvc|wasi|gnux32")
_CONVENTION = re.compile(r"\b(?!ccc\b|x86_64_sysvcc\b)(\w+cc|cc \d+|\w+_kernel)\b")
_BY_MEMORY = {
    "byval": "a structure that is handed over by value", "sret": "a structure as its value",
    "inalloca": "arguments in memory", "preallocated": "arguments in memory", "byref": "a structure by reference",
    "inreg": "an argument in a register of its own", "nest": "a nested function", "swiftself": "a method of Swift",
}  # fmt: skip
_SAME = {"amd64": "x86_64", "arm64": "aarch64"}


def unusual(before: str, arguments: Sequence[str]) -> str:
    """Why no C program can call a definition; "" where one can. `before`: what stands before its name."""
    words = before.split()
    if "internal" in words or "private" in words:
        return "a static function: no other file can call it (take `static` away)"
    if "available_externally" in words:
        return "an inline function whose code is elsewhere"
    convention = _CONVENTION.search(before)
    if convention is not None:
        return f"another calling convention than C's: {convention[1]}"
    for argument in arguments:
        attributes = [word.partition("(")[0] for word in argument.split()[:-1]]
        kind = next((said for word, said in _BY_MEMORY.items() if word in attributes), "")
        if kind:
            return kind
        if "addrspace" in attributes:
            return "a pointer into an address space of its own"
        if argument.strip() == "...":
            return "a variable number of arguments"
    return ""


def check_machine(triple: str, layout: str) -> None:
    """Raises MalformedIr for IR of machines whose addresses or bytes are others than those that are read here."""
    narrow = _NARROW.match(triple) or re.search(r"(?:^|-)p:(?!64)\d+", layout)
    if narrow:
        raise MalformedIr(f"compiled for {triple or layout}: only machines with addresses of 64 bits are read")
    if layout.startswith("E"):
        raise MalformedIr(f"compiled for {triple or layout}, whose highest byte comes first")


def is_foreign(triple: str) -> bool:
    """Whether code for a machine does not run here."""
    machine = triple.partition("-")[0]
    here = platform.machine().lower()
    other = _SAME.get(machine, machine) != _SAME.get(here, here)
    return bool(machine) and (other or _OTHER_SYSTEM.search(triple) is not None)
