"""GPU sketches from TVM's rules, with and without tensor cores, and the formulas of what they take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels import tensor_cores
from kernels.launch_plan import ITEM_BYTES
from kernels.metaschedule import meta_schedule
from kernels.space.data import Knob
from kernels.space.gpu import STATIC_SHARED, Dimension, GpuModel, Staged, Term
from kernels.workload import Workload

VECTOR_WIDTHS = (1, 2, 3, 4, 8, 16)
"""Elements that a thread may copy at once, TVM's own list for tensor cores."""

_EXTENT = "meta_schedule.thread_extent_low_inclusive"
_FETCH = "meta_schedule.cooperative_fetch"
_TENSORIZE = "meta_schedule.auto_tensorize"
_STAGES = "software_pipeline_stage"
_UNLIMITED = 2**31


def rule_sets(target: Target, tf32: bool) -> list[Any]:
    """Lists of schedule rules: plain CUDA, then tensor cores without and with software pipelining."""
    ms = meta_schedule()
    arch = str(target.attrs["arch"])
    plain = list(ms.ScheduleRule.create("cuda"))
    sets = [plain]
    groups = tensor_cores.groups(arch, tf32)
    if groups:
        staging = ms.schedule_rule.ReuseType
        for pipelined in (False, True):
            tensor = ms.schedule_rule.MultiLevelTilingTensorCore(
                groups,
                "SSSRRSRS",
                ["blockIdx.y", "blockIdx.x", "threadIdx.y"],
                4,  # a warp's innermost tile: 4x4 fragments of 16x16 fill its registers
                list(VECTOR_WIDTHS),
                staging("must", [4], "shared.dyn"),
                staging("must", [2], "shared.dyn"),
                pipelined,
            )
            sets.append([plain[0], tensor, *plain[1:]])
    return sets


def uses_tensor_cores(schedule: Schedule) -> bool:
    return any(_TENSORIZE in block.annotations for block, _ in blocks(schedule.mod["main"].body))


def model(schedule: Schedule, knobs: Sequence[Knob], target: Target, workload: Workload) -> GpuModel | None:
    """The formulas of a sketch, read off the program it makes; None where it is not a tiled one."""
    func = schedule.mod["main"]
    found = list(blocks(func.body))
    anchor = next((b for b, _ in found if _EXTENT in b.annotations), None)
    positions = [i for i, k in enumerate(knobs) if k.role in ("spatial", "reduce")]
    if anchor is None:
        return None
    spatial = tuple(i for i in positions if knobs[i].role == "spatial")
    reduce = tuple(i for i in positions if knobs[i].role == "reduce")
    owner = _owners(anchor, spatial, reduce)
    if owner is None:
        return None
    tensor = _TENSORIZE in anchor.annotations
    vectors = _fetch_knobs(schedule, knobs)
    produced = {b.writes[0].source: b for b, _ in found if b.writes}
    staged, static = [], False
    for block, loops in found:
        if _FETCH not in block.annotations:
            continue
        vector = vectors.get(str(block.name_hint), -1)
        buffer = block.writes[0].source
        if buffer.scope().startswith("shared"):
            region = _region(anchor.reads, buffer, produced)
            static = static or buffer.scope() == "shared"
            copies = _copies(loops)
        else:
            region, buffer, copies = None, block.reads[0].source, 1
        if vector < 0 or not buffer.scope().startswith("shared"):
            return None
        staged.append(
            Staged(
                ITEM_BYTES[str(buffer.dtype)],
                _dimensions(buffer, region, owner) if region is not None else _result_tile(buffer, spatial),
                copies,
                _align(block),
                vector,
                _widths(schedule, knobs[vector].instruction),
                is_output=region is None,
                contiguous=region is None or _contiguous(block),
            )
        )
    pipelined = any(s.copies > 1 for s in staged)
    limit = int(target.attrs["max_shared_memory_per_block"])
    return GpuModel(
        spatial,
        reduce,
        tuple(staged),
        int(target.attrs["max_threads_per_block"]),
        min(limit, STATIC_SHARED) if static else limit,
        int(anchor.annotations[_EXTENT]),
        vthread_part=-1 if tensor else 1,
        tile_part=2 if tensor else 1,
        lanes=int(target.attrs["thread_warp_size"]) if tensor else 1,
        intrinsic=_intrinsic(anchor) if tensor else (1, 1, 1),
        min_steps=(2 if pipelined else 1, 2 if pipelined and tensor else 1),
        arch=str(target.attrs["arch"]),
        flops=workload.flops,
        nbytes=workload.bytes,
        batch=math.prod(int(v.dom.extent) for v in anchor.iter_vars if owner[v.var] is None),
        out_itemsize=ITEM_BYTES[workload.outputs[0].dtype],
    )


def _fetch_knobs(schedule: Schedule, knobs: Sequence[Knob]) -> dict[str, int]:
    """The knob that picks the vector width of each copy, by the copying block's name."""
    instructions = schedule.trace.insts
    knob_of = {k.instruction: position for position, k in enumerate(knobs)}
    found = {}
    for annotate in instructions:
        if annotate.kind.name == "Annotate" and str(annotate.attrs[0]) == _FETCH:
            block, width = annotate.inputs
            [made] = [i for i, x in enumerate(instructions) if any(width.same_as(o) for o in x.outputs)]
            found[str(schedule.get(block).name_hint)] = knob_of[made]
    return found


def _owners(anchor: Any, spatial: Sequence[int], reduce: Sequence[int]) -> dict[Any, int | None] | None:
    """The knob that cuts the loop of each of the anchor's variables.

    The leading ones of tensor-core sketches, batch dimensions, have none and do not move within a tile.
    """
    groups: dict[int, list[Any]] = {0: [], 2: []}
    for iter_var in anchor.iter_vars:
        groups.setdefault(int(iter_var.iter_type), []).append(iter_var.var)
    batch = len(groups[0]) - len(spatial)
    if len(groups) > 2 or batch < 0 or len(groups[2]) != len(reduce):
        return None
    found: dict[Any, int | None] = dict.fromkeys(groups[0][:batch])
    found.update(zip([*groups[0][batch:], *groups[2]], [*spatial, *reduce], strict=True))
    return found


def blocks(statement: Any, loops: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every block under a statement with the loops around it, outermost first."""
    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from blocks(part, loops)
    elif isinstance(statement, tirx.For):
        yield from blocks(statement.body, (*loops, statement))
    elif isinstance(statement, tvm.s_tir.SBlockRealize):
        yield statement.block, loops
        yield from blocks(statement.block.body, loops)
    else:
        for name in ("body", "then_case", "else_case"):
            inner = getattr(statement, name, None)
            if inner is not None:
                yield from blocks(inner, loops)


def _region(reads: Any, buffer: Any, produced: Mapping[Any, Any]) -> Any:
    """What the anchor reads of a staged buffer, directly or through fragments copied from it index by index."""
    for read in reads:
        source = read.source
        if source.same_as(buffer):
            return read.region
        copy = produced.get(source)
        if copy is not None and copy.reads and copy.reads[0].source.same_as(buffer):
            return read.region
    return None


def _copies(loops: Sequence[Any]) -> int:
    """How many tiles of a staged operand live at once: one more than the pipeline's depth."""
    for loop in reversed(loops):
        if _STAGES in loop.annotations:
            stages = [int(s) for s in loop.annotations[_STAGES]]
            return max(stages) - min(stages) + 1
    return 1


def _contiguous(copy: Any) -> bool:
    """Whether neighbours in the copy's last dimension are neighbours in its source, as far as the indices tell."""
    last = copy.writes[0].region[-1].min
    if not copy.reads or not isinstance(last, tirx.Var):
        return False
    owner: dict[Any, int | None] = {v.var: number for number, v in enumerate(copy.iter_vars)}
    if owner.get(last) is None:
        return False
    *others, row = [_terms(part.min, owner) for part in copy.reads[0].region]
    if row is None or any(terms is None for terms in others):
        return False
    moving = [t for terms in others for t in terms or () if t.knob == owner[last]]
    return not moving and [t for t in row if t.knob == owner[last]] == [Term(int(owner[last] or 0))]


def _align(block: Any) -> tuple[int, int]:
    for entry in block.annotations.get("buffer_dim_align", ()):
        _, _, factor, offset = (int(n) for n in entry)
        return factor, offset
    return 0, 0


def _widths(schedule: Schedule, instruction: int) -> tuple[int, ...]:
    return tuple(int(n) for n in schedule.trace.insts[instruction].attrs[0])


def _intrinsic(anchor: Any) -> tuple[int, int, int]:
    """m, n, k of the fragments: the extents of the blockized inner loops."""
    name = str(anchor.annotations[_TENSORIZE])
    m, n, k = (int(x) for x in name.split("_")[2].split("x"))
    return m, n, k


def _dimensions(buffer: Any, region: Any, owner: Mapping[Any, int | None]) -> tuple[Dimension, ...]:
    found = []
    for extent, part in zip(buffer.shape, region, strict=True):
        terms = _terms(part.min, owner)
        limit = int(extent)
        found.append(Dimension(limit, limit) if terms is None else Dimension(limit, int(part.extent), tuple(terms)))
    return tuple(found)


def _terms(index: Any, owner: Mapping[Any, int | None], scale: int = 1) -> list[Term] | None:
    """An index as a sum of terms; None where it is not one."""
    if isinstance(index, tirx.IntImm):
        return []
    if isinstance(index, tirx.Var):
        if index not in owner:
            return None
        knob = owner[index]
        return [] if knob is None else [Term(knob, scale)]
    if isinstance(index, (tirx.Add, tirx.Sub)):
        left = _terms(index.a, owner, scale)
        right = _terms(index.b, owner, scale)
        return None if left is None or right is None else left + right
    if isinstance(index, tirx.Mul):
        for value, factor in ((index.a, index.b), (index.b, index.a)):
            if isinstance(factor, tirx.IntImm):
                return _terms(value, owner, scale * abs(int(factor)))
    if isinstance(index, (tirx.FloorDiv, tirx.FloorMod)) and isinstance(index.b, tirx.IntImm):
        inner = _terms(index.a, owner)
        if inner is not None and len(inner) == 1 and inner[0].coefficient == 1 and not inner[0].modulus:
            [only], by = inner, int(index.b)
            if isinstance(index, tirx.FloorDiv):
                return [Term(only.knob, scale, only.divisor * by)]
            return [Term(only.knob, scale, only.divisor, by)]
    return None


def _result_tile(buffer: Any, model_spatial: Sequence[int]) -> tuple[Dimension, ...]:
    """What a tensor-core sketch stages of its results: one row of fragments of every warp, over all columns.

    The staging buffer is [m outer, n outer, m inner, n inner, fragment, fragment], batch dimensions before; the sketch
    walks its rows of fragments, so only the warps' share of m is there at once.
    """
    *batch, m, n = model_spatial
    fragment = [Dimension(int(extent), int(extent)) for extent in buffer.shape[-2:]]
    rows, columns = Dimension(_UNLIMITED, 1, (Term(~m),)), Dimension(_UNLIMITED, 1, (Term(n),))
    return (*(Dimension(_UNLIMITED, 1, (Term(b),)) for b in batch), rows, columns, *fragment)
