"""How many blocks of a kernel one multiprocessor holds at once, and what limits their number.

The rules are those of `cuda_occupancy.h` of the CUDA toolkit; tests compile that header and compare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_WARP = 32
_PARTITIONS = 4
"""Each multiprocessor since Volta is four partitions, each with a quarter of the registers and warps."""

_REGISTER_UNIT = 256
"""Registers are allotted to a warp in units of this many."""

_MAX_REGISTERS = 255


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one multiprocessor. Shared memory in bytes; `reserved` is what the driver takes for each block."""

    threads: int
    blocks: int
    registers: int
    shared: int
    shared_per_block: int
    reserved: int = 1024
    shared_unit: int = 128


_K = 1024
MULTIPROCESSORS: Mapping[int, Multiprocessor] = {
    70: Multiprocessor(2048, 32, 65536, 96 * _K, 96 * _K, 0, 256),
    75: Multiprocessor(1024, 16, 65536, 64 * _K, 64 * _K, 0, 256),
    80: Multiprocessor(2048, 32, 65536, 164 * _K, 163 * _K),
    86: Multiprocessor(1536, 16, 65536, 100 * _K, 99 * _K),
    87: Multiprocessor(1536, 16, 65536, 164 * _K, 163 * _K),
    89: Multiprocessor(1536, 24, 65536, 100 * _K, 99 * _K),
    90: Multiprocessor(2048, 32, 65536, 228 * _K, 227 * _K),
    100: Multiprocessor(2048, 32, 65536, 228 * _K, 227 * _K),
    103: Multiprocessor(2048, 32, 65536, 228 * _K, 227 * _K),
    120: Multiprocessor(1536, 24, 65536, 100 * _K, 99 * _K),
}
"""By compute capability (CUDA programming guide, "Technical specifications per compute capability")."""


@dataclass(frozen=True)
class Occupancy:
    """Blocks that run at once on a multiprocessor; 0 when the kernel cannot be launched at all.

    `limiter` is the resource that limits them: `threads`, `blocks`, `registers` or `shared memory`.
    """

    blocks: int
    warps: int
    fraction: float
    limiter: str


def multiprocessor(arch: str) -> Multiprocessor:
    """The limits of an architecture (`sm_90a`). Raises ValueError for one that is not in the table."""
    matched = re.fullmatch(r"sm_(\d{2,3})[af]?", arch)
    if matched is None or int(matched[1]) not in MULTIPROCESSORS:
        raise ValueError(f"no occupancy rules for {arch!r}; known: {', '.join(f'sm_{n}' for n in MULTIPROCESSORS)}")
    return MULTIPROCESSORS[int(matched[1])]


def occupancy(arch: str, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """Occupancy of a kernel: `threads` a block, `registers` a thread, `shared_bytes` a block, static and dynamic."""
    sm = multiprocessor(arch)
    warps = -(-threads // _WARP)
    limits = {
        "threads": sm.threads // _WARP // warps if threads <= 1024 else 0,
        "blocks": sm.blocks,
        "registers": _by_registers(sm, warps, registers),
        "shared memory": _by_shared(sm, shared_bytes),
    }
    limiter = min(limits, key=lambda name: limits[name])
    blocks = limits[limiter]
    return Occupancy(blocks, blocks * warps, blocks * warps * _WARP / sm.threads, limiter)


def _by_registers(sm: Multiprocessor, warps: int, registers: int) -> int:
    of_warp = _round_up(registers * _WARP, _REGISTER_UNIT)
    if registers > _MAX_REGISTERS or of_warp * _round_up(warps, _PARTITIONS) > sm.registers:
        return 0
    if of_warp == 0:
        return sm.blocks
    return sm.registers // _PARTITIONS // of_warp * _PARTITIONS // warps


def _by_shared(sm: Multiprocessor, shared_bytes: int) -> int:
    if shared_bytes > sm.shared_per_block:
        return 0
    of_block = _round_up(shared_bytes + sm.reserved, sm.shared_unit)
    return sm.shared // of_block if of_block else sm.blocks


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
