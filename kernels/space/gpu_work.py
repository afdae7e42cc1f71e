"""What a GPU candidate makes the GPU do, from its decisions alone: what the static judge is asked about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kernels.gpus import gpu_of
from kernels.roofline import Estimate, Work, estimate
from kernels.space.decision import Decision, as_parts
from kernels.space.gpu import GpuModel, Staged

_WARP = 32
_FILE = 65536
"""Registers of a multiprocessor, since Kepler."""

_REGISTERS = 30
"""Addresses, counters and the like, as ptxas takes them for TVM's kernels."""


def judge(model: GpuModel, decisions: Sequence[Decision]) -> Estimate:
    """The judge's estimate of a candidate on the most capable GPU of its architecture (0.1 ms)."""
    return estimate(work(model, decisions), gpu_of(model.arch))


def work(model: GpuModel, decisions: Sequence[Decision]) -> Work:
    """What one launch of the candidate's main kernel does."""
    parts = {k: as_parts(decisions[k]) for k in (*model.spatial, *model.reduce)}
    blocks = model.batch * math.prod(math.prod(parts[k][: model.tile_part]) for k in model.spatial)
    threads, accumulators = model.threads(decisions), model.accumulators(decisions)
    steps = math.prod(parts[k][0] for k in model.reduce)
    depth = math.prod(math.prod(parts[k]) for k in model.reduce)
    tiles = model.tiles(decisions)
    inner = {k: math.prod(parts[k][model.thread_part + 1 :]) for k in model.spatial}
    lanes = dict.fromkeys(model.spatial, 1) if model.tensor_cores else _lanes(model, parts)
    alone: dict[int, int] = {}
    together: dict[int, int] = {}
    for k in model.spatial:
        alone[k], together[k] = inner[k], inner[k] * lanes[k]
        alone[~k] = together[~k] = 1
    alone |= dict.fromkeys(model.reduce, 1)
    together |= dict.fromkeys(model.reduce, 1)
    operands = [s for s in model.staged if not s.is_output]
    staged = sum(s.nbytes(tiles) // s.copies for s in operands)
    m, n, _ = model.intrinsic
    written = math.prod(tiles[k] for k in model.spatial) * m * n * model.out_itemsize
    # what the warps of a block fetch from shared memory for one step of depth, and for one thread alone
    of_warp = [s.nbytes(together) / s.copies for s in operands]
    of_thread = sum(s.nbytes(alone) / s.copies / s.itemsize for s in operands)
    fetched = sum(b * _conflicts(s, model, parts, inner, lanes) for b, s in zip(of_warp, operands, strict=True))
    warps = math.ceil(threads / _WARP)
    loads = of_thread / max(accumulators * (model.lanes if model.tensor_cores else 1), 1)
    wanted = round(_REGISTERS + accumulators + of_thread / model.lanes)
    granted = min(
        wanted, 255, _FILE // (warps * _WARP) // 8 * 8
    )  # ptxas keeps to the launch bounds, and spills the rest
    return Work(
        blocks=blocks,
        threads=threads,
        registers=granted,
        spilled=wanted - granted,
        shared_memory=model.shared_bytes(tiles),
        flops=model.flops / blocks,
        l2_bytes=steps * staged + written,
        shared_bytes=warps * depth * fetched * model.vthreads(decisions) + 2.0 * steps * staged,
        least_dram_bytes=float(model.nbytes),
        steps=steps,
        in_flight=max((s.copies for s in operands), default=1),
        independent=max(accumulators // (8 if model.tensor_cores else 1), 1),
        coalesced=min((min(1.0, _run(s, tiles) / 64) for s in operands), default=1.0),
        tensor_cores=model.tensor_cores,
        overhead=1.0 + (4.0 if model.tensor_cores else 1.0) * loads,
    )


def _lanes(model: GpuModel, parts: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """How many lanes of a warp lie along each spatial loop: the last loop's threads are neighbours."""
    left = _WARP
    found: dict[int, int] = {}
    for k in reversed(model.spatial):
        found[k] = min(parts[k][model.thread_part], left)
        left = max(left // found[k], 1)
    return found


def _conflicts(
    staged: Staged,
    model: GpuModel,
    parts: Mapping[int, Sequence[int]],
    inner: Mapping[int, int],
    lanes: Mapping[int, int],
) -> float:
    """How many lanes want different words of the same bank, at worst, when a warp reads the operand."""
    if model.tensor_cores:
        return 1.0 if staged.align[0] else 2.0
    tiles = {k: math.prod(parts[k][model.tile_part :]) for k in model.spatial}
    tiles |= {k: math.prod(parts[k][1:]) for k in model.reduce}
    extents = [d.extent(tiles) for d in staged.dimensions]
    words: dict[int, set[int]] = {}
    for lane in range(_WARP):
        address, rest = 0, lane
        at = {}
        for k in reversed(model.spatial):
            at[k], rest = rest % lanes[k] * inner[k], rest // lanes[k]
        for dimension, extent in zip(staged.dimensions, extents, strict=True):
            index = sum(
                t.coefficient * (at.get(t.knob, 0) // t.divisor % (t.modulus or 1 << 31)) for t in dimension.terms
            )
            address = address * extent + index
        word = address * staged.itemsize // 4
        words.setdefault(word % _WARP, set()).add(word)
    return float(max(len(w) for w in words.values()))


def _run(staged: Staged, tiles: Mapping[int, int]) -> int:
    """Bytes that lie next to each other in a row of the tile."""
    return staged.dimensions[-1].extent(tiles) * staged.itemsize
