"""The analytical model: how long a kernel should take, from its work and the GPU's data sheet. Nothing is run.

A roofline over every level a block uses (arithmetic, shared memory, L2, device memory), each derated by what keeps it
from its peak: idle multiprocessors in the last wave, too few independent operations in flight (Little's law: Volkov,
"Understanding latency hiding on GPUs", 2016), bank conflicts, uncoalesced access, spilled registers. It orders
candidates before the first measurement and prunes slow ones. Its seconds are no measurement and never reach a report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernels.gpus import GpuSpec
from kernels.occupancy import Occupancy, occupancy

_ARITHMETIC_LATENCY = 4.0
"""Clocks from a multiply-add to the first use of its result, on every architecture since Volta."""

MEMORY_LATENCY_S = 5e-7
"""From device memory to registers through a barrier; roughly the same for a decade."""

_SHARED_LATENCY_S = 2e-8
LAUNCH_S = 2e-6
_OVERLAP = 0.15
"""The fraction of the smaller shares that adds to the largest one: levels overlap, but not fully."""

PRUNING_RATIO = 20.0
"""A candidate whose estimate is this many times the best one is not worth a build."""

FEATURE_NAMES = (
    "seconds", "arithmetic", "shared_memory", "l2", "device_memory", "latency", "occupancy", "waves", "last_wave",
)  # fmt: skip
"""The numbers of `Estimate.features`. The names are stored with features, so they never change their meaning."""

_LEVELS = ("arithmetic", "shared memory", "L2", "device memory", "latency")


@dataclass(frozen=True)
class Work:
    """The work of one launch. Bytes and flops are of one block, unless the description says otherwise.

    `l2_bytes` is what a block reads and writes beyond its multiprocessor, `shared_bytes` what its threads move to and
    from shared memory, `conflicts` the factor by which bank conflicts slow that down, and `coalesced` the used fraction
    of each transaction. `steps` are the rounds of loading and waiting, of which `in_flight` overlap (pipelining).
    `independent` multiply-adds of a thread can be under way at once; `overhead` instructions are issued for each of
    them. `spilled` registers of a thread are in memory. `least_dram_bytes` is of the whole launch. `tensor_cores`
    multiply operands of `operand_bytes`.
    """

    blocks: int
    threads: int
    registers: int
    shared_memory: int
    flops: float
    l2_bytes: float
    shared_bytes: float
    least_dram_bytes: float
    steps: int = 1
    in_flight: int = 1
    independent: int = 1
    conflicts: float = 1.0
    coalesced: float = 1.0
    tensor_cores: bool = False
    operand_bytes: int = 2
    overhead: float = 1.0
    spilled: int = 0


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of a launch, the name of the largest share, and every share in seconds (by _LEVELS)."""

    seconds: float
    bound_by: str
    shares: dict[str, float]
    occupancy: Occupancy
    waves: float

    def features(self) -> tuple[float, ...]:
        """The numbers of FEATURE_NAMES, for a cost model.

        log2 of the seconds and of each share, the occupancy, log2 of the waves + 1, and how full the last wave is.
        """
        logs = [math.log2(max(s, 1e-12)) for s in (self.seconds, *self.shares.values())]
        return (*logs, self.occupancy.fraction, math.log2(self.waves + 1), self.waves - math.floor(self.waves))


def estimate(work: Work, gpu: GpuSpec) -> Estimate:
    """Estimate one launch. Infinite seconds where it cannot be launched."""
    fits = occupancy(gpu.arch, work.threads, work.registers, work.shared_memory)
    if fits.blocks == 0:
        return Estimate(math.inf, fits.limiter, dict.fromkeys(_LEVELS, math.inf), fits, 0.0)
    at_once = min(fits.blocks, math.ceil(work.blocks / gpu.multiprocessors))
    waves = work.blocks / (gpu.multiprocessors * at_once)
    rounds = math.ceil(work.blocks / gpu.multiprocessors)  # blocks of the busiest multiprocessor
    warps = at_once * math.ceil(work.threads / 32)
    lanes = math.ceil(work.threads / 32) * 32 / work.threads
    peak = _peak(work, gpu) / gpu.multiprocessors
    hidden = min(1.0, warps / 4 * work.independent / _ARITHMETIC_LATENCY)
    spills = 1.0 + work.spilled / 64
    per_sm = {
        "arithmetic": work.flops * lanes * work.overhead / (peak * hidden) * spills,
        "shared memory": work.shared_bytes * work.conflicts * gpu.multiprocessors / gpu.shared_bytes,
        "L2": (work.l2_bytes / work.coalesced + 8.0 * work.spilled * work.threads) * gpu.multiprocessors / gpu.l2_bytes,
    }
    shares = {name: seconds * rounds for name, seconds in per_sm.items()}
    traffic = max(work.least_dram_bytes, 0.3 * work.l2_bytes * work.blocks if _misses(work, gpu) else 0.0)
    shares["device memory"] = traffic / work.coalesced / gpu.dram_bytes
    wait = work.steps * (MEMORY_LATENCY_S / work.in_flight + _SHARED_LATENCY_S)
    shares["latency"] = wait * math.ceil(rounds / at_once) / max(1.0, min(at_once, 4) / 2)
    largest = max(shares, key=lambda name: shares[name])
    rest = sum(shares.values()) - shares[largest]
    return Estimate(LAUNCH_S + shares[largest] + _OVERLAP * rest, largest, shares, fits, waves)


def _peak(work: Work, gpu: GpuSpec) -> float:
    if not work.tensor_cores:
        return gpu.fp32_flops
    return gpu.byte_flops if work.operand_bytes == 1 and gpu.byte_flops else gpu.tensor_flops


def _misses(work: Work, gpu: GpuSpec) -> bool:
    """Whether what is read again is likely to have left L2 in between."""
    return work.least_dram_bytes > gpu.l2_size
