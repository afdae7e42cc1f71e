"""What a compiled model is made of, read from its library: figures that no clock moves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MORE_IS_BETTER = ("vector_share", "trials_per_s", "trials")
"""Series in which a change upwards is one for the better."""

_TIMEOUT_S = 120.0
_VECTOR = re.compile(r"%[yz]mm\d|\bv\d+\.(?:\d+)?[bhsd]\b|\bz\d+\.[bhsd]\b")
"""A vector register of x86 (256 or 512 bits) or AArch64 in an operand."""
_PACKED = re.compile(r"v?(?:p[a-z]+[bwdq]|[a-z0-9]+p[sdh])\b")
"""A packed instruction of x86: of its 128-bit registers only these are vectors, the others hold one number."""
_PLACES = re.compile(r"\s*(?:#|//).*$|\b0x[0-9a-f]+\(%rip\)|\b[0-9a-f]+ <[^>]*>|<[^>]*>")
"""What a linker decides: addresses, and the names that a disassembler puts beside them."""


@dataclass(frozen=True)
class Structure:
    """`instructions` of the library's code, the share of them on vectors, and a hash of them without addresses.

    `allocated` is what the library reserves in bytes: a static model's intermediate tensors.
    """

    instructions: int
    vector_share: float
    code_hash: str
    allocated: int


def of_library(path: Path) -> Structure | str:
    """The structure of a shared library's code, or why it cannot be told."""
    program = shutil.which("objdump")
    if program is None:
        return "objdump is not installed (package binutils)"
    command = [program, "-h", "-d", "-j", ".text", "-j", ".bss", "--no-show-raw-insn", str(path)]
    count = vectors = 0
    digest = hashlib.sha256()
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"objdump did not end within {_TIMEOUT_S:.0f} s"
    for instruction in _instructions(done.stdout):
        count += 1
        vectors += is_vector(instruction)
        digest.update(_PLACES.sub("", instruction).encode() + b"\n")
    if not count:
        return f"objdump found no code: {done.stderr.strip()[:200] or 'an empty library'}"
    reserved = re.search(r"^ *\d+ \.bss +([0-9a-f]+) ", done.stdout, re.MULTILINE)
    allocated = int(reserved[1], 16) if reserved else 0
    return Structure(count, vectors / count, digest.hexdigest()[:16], allocated)


def _instructions(listing: str) -> Iterator[str]:
    for line in listing.splitlines():
        address, colon, instruction = line.partition(":\t")
        if colon and address.strip():
            yield " ".join(instruction.split())


def is_vector(instruction: str) -> bool:
    """Whether an instruction, as objdump writes it, computes on several numbers at once or moves them."""
    if _VECTOR.search(instruction):
        return True
    mnemonic = instruction.partition(" ")[0]
    return "%xmm" in instruction and _PACKED.fullmatch(mnemonic) is not None


def of_run(folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers and texts of a run: of its library, its summary and its manifest. What cannot be read is left out."""
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    library = folder / "export" / "model.so"
    if library.is_file():
        numbers["library_bytes"] = float(library.stat().st_size)
        found = of_library(library)
        if isinstance(found, Structure):
            numbers |= {"instructions": float(found.instructions), "vector_share": found.vector_share}
            numbers["bytes_allocated"] = float(found.allocated)
            texts["code_hash"] = found.code_hash
    summary = read_json(folder / "summary.json")
    kernels = summary.get("kernels")
    if isinstance(kernels, list) and kernels:
        numbers["kernels"] = float(len(kernels))
        numbers["kernel_calls"] = float(sum(_count(k.get("weight")) for k in kernels))
        numbers["bytes_moved"] = float(sum(_count(k.get("weight")) * _count(k.get("bytes")) for k in kernels))
    return numbers, texts


def of_search(folder: Path) -> dict[str, float]:
    """Numbers of a run's search: seconds, trials, and trials a second."""
    search = read_json(folder / "summary.json").get("search") or {}
    seconds, trials = _count(search.get("wall_s")), _count(search.get("measured"))
    if seconds <= 0 or trials <= 0:
        return {}
    return {"search_s": seconds, "trials": trials, "trials_per_s": trials / seconds}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _count(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
