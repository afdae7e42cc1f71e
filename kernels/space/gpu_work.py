"""The work of a GPU candidate, derived from its decisions alone: the input of the analytical model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kernels.gpus import GpuSpec, gpu_of
from kernels.occupancy import occupancy
from kernels.passes import PassConfig
from kernels.passes.base import Pass
from kernels.passes.stream_k import ALL, StreamK
from kernels.roofline import LAUNCH_S, MEMORY_LATENCY_S, Estimate, Work, estimate
from kernels.space.decision import Decision, as_factors
from kernels.space.gpu import GpuModel, Staged
from kernels.waves import Division, divided

_WARP = 32
_REGISTER_FILE = 65536
"""Registers of a multiprocessor, since Kepler."""

_SUM_BYTES = 4
"""Of a sum, in a part of a tile."""

_LOADS_IN_FLIGHT = 4
"""Of the parts that a thread adds one after the other: compilers unroll such a loop by four."""

_WORTH = 0.95
"""What a division of the steps must be predicted to leave of the time."""

_BASE_REGISTERS = 30
"""Registers of a thread for addresses, counters and the like, as ptxas allots them for TVM's kernels."""


def predict(model: GpuModel, decisions: Sequence[Decision], passes: PassConfig = PassConfig()) -> Estimate:
    """The analytical model's estimate of a candidate, for the most capable GPU of its architecture (0.1 ms).

    Of the passes it knows `stream_k`: blocks with equal work, and a second launch for the parts of tiles.
    """
    gpu = gpu_of(model.arch)
    whole = work(model, decisions)
    division = _division(model, whole, gpu, passes)
    first = estimate(whole if division is None else _divided(whole, division), gpu)
    seconds = first.seconds
    if model.second_launch_bytes:
        seconds += LAUNCH_S + model.second_launch_bytes / gpu.dram_bytes
    if division is not None:
        m, n, _ = model.intrinsic
        tiles = model.tiles(decisions)
        part = math.prod(tiles[k] for k in model.spatial) * m * n * _SUM_BYTES
        seconds += LAUNCH_S + 2 * division.most_partial * part / gpu.dram_bytes
        seconds += division.most_parts * MEMORY_LATENCY_S / _LOADS_IN_FLIGHT
    return replace(first, seconds=seconds)


def evenly(model: GpuModel, decisions: Sequence[Decision], settings: Sequence[Pass]) -> tuple[Pass, float]:
    """The one of some settings of `stream_k` that is predicted to be fastest, and its seconds; the first of them, where
    none is 5 % faster."""
    predicted = [predict(model, decisions, PassConfig().replace(setting)).seconds for setting in settings]
    best = min(range(len(settings)), key=lambda n: predicted[n])
    best = best if predicted[best] < _WORTH * predicted[0] else 0
    return settings[best], predicted[best]


def divided_by(model: GpuModel, decisions: Sequence[Decision], passes: PassConfig) -> Division | None:
    """How passes divide the steps of a candidate's main launch; None where they do not."""
    return _division(model, work(model, decisions), gpu_of(model.arch), passes)


def _division(model: GpuModel, whole: Work, gpu: GpuSpec, passes: PassConfig) -> Division | None:
    [setting] = [s for s in passes.settings if isinstance(s, StreamK)]
    at_once = occupancy(gpu.arch, whole.threads, whole.registers, whole.shared_memory).blocks if setting.divide else 0
    if not at_once or any(staged.copies > 1 for staged in model.staged):  # pipelined reductions are not divided
        return None
    made = divided(whole.blocks, whole.steps, setting.blocks or gpu.multiprocessors * at_once, setting.divide == ALL)
    return made if isinstance(made, Division) else None


def _divided(whole: Work, division: Division) -> Work:
    """The work of a block that has as many steps as any, in place of that of a tile."""
    tiles = division.largest / division.steps
    return replace(
        whole,
        blocks=division.blocks,
        flops=whole.flops * tiles,
        l2_bytes=whole.l2_bytes * tiles,
        shared_bytes=whole.shared_bytes * tiles,
        steps=division.largest,
    )


def work(model: GpuModel, decisions: Sequence[Decision]) -> Work:
    """The work of one launch of the candidate's main kernel."""
    factors = {k: as_factors(decisions[k]) for k in (*model.spatial, *model.reduce)}
    blocks = model.batch * math.prod(math.prod(factors[k][: model.tile_level]) for k in model.spatial)
    threads, accumulators = model.threads(decisions), model.accumulators(decisions)
    steps = math.prod(factors[k][0] for k in model.reduce)
    depth = math.prod(math.prod(factors[k]) for k in model.reduce)
    tiles = model.tiles(decisions)
    inner = {k: math.prod(factors[k][model.thread_level + 1 :]) for k in model.spatial}
    lanes = dict.fromkeys(model.spatial, 1) if model.tensor_cores else _lanes(model, factors)
    thread_tile: dict[int, int] = dict.fromkeys(model.reduce, 1)
    warp_tile: dict[int, int] = dict.fromkeys(model.reduce, 1)
    for k in model.spatial:
        thread_tile[k], warp_tile[k] = inner[k], inner[k] * lanes[k]
        thread_tile[~k] = warp_tile[~k] = 1
    operands = [s for s in model.staged if not s.is_output]
    staged = sum(s.nbytes(tiles) // s.copies for s in operands)
    m, n, _ = model.intrinsic
    written = math.prod(tiles[k] for k in model.spatial) * m * n * model.out_itemsize
    # what a warp fetches from shared memory for one step of the reduction (bytes), and one thread alone (elements)
    warp_bytes = sum(s.nbytes(warp_tile) / s.copies * _conflicts(s, model, factors, inner, lanes) for s in operands)
    of_thread = sum(s.nbytes(thread_tile) / s.copies / s.itemsize for s in operands)
    warps = math.ceil(threads / _WARP)
    loads = of_thread / max(accumulators * (model.lanes if model.tensor_cores else 1), 1)
    wanted = round(_BASE_REGISTERS + accumulators + of_thread / model.lanes)
    # ptxas keeps to the launch bounds, and spills the rest
    granted = min(wanted, 255, _REGISTER_FILE // (warps * _WARP) // 8 * 8)
    return Work(
        blocks=blocks,
        threads=threads,
        registers=granted,
        spilled=wanted - granted,
        shared_memory=model.shared_bytes(tiles),
        flops=model.flops / blocks,
        l2_bytes=steps * staged + written,
        shared_bytes=warps * depth * warp_bytes * model.vthreads(decisions) + 2.0 * steps * staged,
        least_dram_bytes=float(model.nbytes),
        steps=steps,
        in_flight=max((s.copies for s in operands), default=1),
        independent=max(accumulators // (8 if model.tensor_cores else 1), 1),
        coalesced=min((min(1.0, _run(s, tiles) / 64) for s in operands), default=1.0),
        tensor_cores=model.tensor_cores,
        operand_bytes=max((s.itemsize for s in operands), default=2),
        overhead=1.0 + (4.0 if model.tensor_cores else 1.0) * loads,
    )


def _lanes(model: GpuModel, factors: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """How many lanes of a warp lie along each spatial loop: the last loop's threads are neighbours."""
    left = _WARP
    lanes: dict[int, int] = {}
    for k in reversed(model.spatial):
        lanes[k] = min(factors[k][model.thread_level], left)
        left = max(left // lanes[k], 1)
    return lanes


def _conflicts(
    staged: Staged,
    model: GpuModel,
    factors: Mapping[int, Sequence[int]],
    inner: Mapping[int, int],
    lanes: Mapping[int, int],
) -> float:
    """The largest number of different words of one bank that the lanes of a warp need when it reads the operand."""
    if model.tensor_cores:
        return 1.0 if staged.align[0] else 2.0
    tiles = {k: math.prod(factors[k][model.tile_level :]) for k in model.spatial}
    tiles |= {k: math.prod(factors[k][1:]) for k in model.reduce}
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
    """Contiguous bytes of a row of the tile."""
    return staged.dimensions[-1].extent(tiles) * staged.itemsize
