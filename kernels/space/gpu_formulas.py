"""Reads the formulas of a GPU sketch (see `gpu`) off the program that it makes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.gpus import MODELLED_AS
from kernels.launch_plan import ITEM_BYTES
from kernels.space.data import Knob
from kernels.space.gpu import STATIC_SHARED, Dimension, GpuModel, IndexTerm, Staged
from kernels.workload import Workload

TENSORIZE = "meta_schedule.auto_tensorize"
"""The annotation of blocks that an intrinsic will replace."""

_EXTENT = "meta_schedule.thread_extent_low_inclusive"
_FETCH = "meta_schedule.cooperative_fetch"
_STAGES = "software_pipeline_stage"
_UNLIMITED = 2**31


def model(schedule: Schedule, knobs: Sequence[Knob], target: Target, workload: Workload) -> GpuModel | None:
    """The formulas of a sketch, read off the program it makes; None where it is not a tiled one."""
    all_blocks = list(blocks(schedule.mod["main"].body))
    anchor = _anchor([block for block, _ in all_blocks], knobs)
    if anchor is None:
        return None
    vectors = _fetch_knobs(schedule, knobs)
    copies = [(block, loops) for block, loops in all_blocks if _FETCH in block.annotations]
    staged = []
    for block, loops in copies:
        vector = vectors.get(str(block.name_hint), -1)
        buffer = _staged(block, loops, anchor, vector, _widths(schedule, knobs, vector))
        if buffer is None:
            return None
        staged.append(buffer)
    static = any(block.writes[0].source.scope() == "shared" for block, _ in copies)
    shared_limit = int(target.attrs["max_shared_memory_per_block"])
    tensor = TENSORIZE in anchor.block.annotations
    pipelined = any(buffer.copies > 1 for buffer in staged)
    return GpuModel(
        anchor.spatial,
        anchor.reduce,
        tuple(staged),
        int(target.attrs["max_threads_per_block"]),
        min(shared_limit, STATIC_SHARED) if static and target.kind.name == "cuda" else shared_limit,
        int(anchor.block.annotations[_EXTENT]),
        vthread_level=-1 if tensor else 1,
        tile_level=2 if tensor else 1,
        lanes=int(target.attrs["thread_warp_size"]) if tensor else 1,
        intrinsic=_intrinsic(anchor.block) if tensor else (1, 1, 1),
        min_steps=(2 if pipelined else 1, 2 if pipelined and tensor else 1),
        arch=str(target.attrs.get("arch", MODELLED_AS)),
        flops=workload.flops,
        nbytes=workload.bytes,
        batch=math.prod(int(v.dom.extent) for v in anchor.block.iter_vars if anchor.knob_of[v.var] is None),
        out_itemsize=ITEM_BYTES[workload.outputs[0].dtype],
    )


@dataclass(frozen=True)
class _Anchor:
    """The tiled block of a sketch: the tile knobs of its loops, and the knob of each of its variables.

    The leading variables of tensor-core sketches, batch dimensions, have no knob and do not move within a tile.
    `producers` are the program's blocks by the buffer they write.
    """

    block: Any
    spatial: tuple[int, ...]
    reduce: tuple[int, ...]
    knob_of: Mapping[Any, int | None]
    producers: Mapping[Any, Any]

    def region(self, buffer: Any) -> Any:
        """What the anchor reads of a staged buffer, directly or through fragments copied from it index by index."""
        for read in self.block.reads:
            if read.source.same_as(buffer):
                return read.region
            copy = self.producers.get(read.source)
            if copy is not None and copy.reads and copy.reads[0].source.same_as(buffer):
                return read.region
        return None


def _anchor(all_blocks: Sequence[Any], knobs: Sequence[Knob]) -> _Anchor | None:
    """The anchor of a program; None without one, or where its variables are not those that the knobs cut."""
    block = next((block for block in all_blocks if _EXTENT in block.annotations), None)
    if block is None:
        return None
    spatial = tuple(i for i, k in enumerate(knobs) if k.role == "spatial")
    reduce = tuple(i for i, k in enumerate(knobs) if k.role == "reduce")
    variables: dict[int, list[Any]] = {0: [], 2: []}  # by kind of iteration: 0 is spatial, 2 a reduction
    for iter_var in block.iter_vars:
        variables.setdefault(int(iter_var.iter_type), []).append(iter_var.var)
    batch = len(variables[0]) - len(spatial)
    if len(variables) > 2 or batch < 0 or len(variables[2]) != len(reduce):
        return None
    knob_of: dict[Any, int | None] = dict.fromkeys(variables[0][:batch])
    knob_of.update(zip([*variables[0][batch:], *variables[2]], [*spatial, *reduce], strict=True))
    return _Anchor(block, spatial, reduce, knob_of, {b.writes[0].source: b for b in all_blocks if b.writes})


def _staged(copy: Any, loops: Sequence[Any], anchor: _Anchor, vector: int, widths: tuple[int, ...]) -> Staged | None:
    """The shared buffer that a copying block writes, or reads for results; None where there is no formula for it."""
    buffer = copy.writes[0].source
    if is_operand := buffer.scope().startswith("shared"):
        region, copies = anchor.region(buffer), _copies(loops)
    else:
        region, buffer, copies = None, copy.reads[0].source, 1
    if vector < 0 or not (is_operand or buffer.scope().startswith("shared")):
        return None
    return Staged(
        ITEM_BYTES[str(buffer.dtype)],
        _result_tile(buffer, anchor.spatial) if region is None else _dimensions(buffer, region, anchor.knob_of),
        copies,
        _align(copy),
        vector,
        widths,
        is_output=region is None,
        contiguous=region is None or _contiguous(copy),
    )


def _fetch_knobs(schedule: Schedule, knobs: Sequence[Knob]) -> dict[str, int]:
    """The position of the knob that picks the vector width of each copy, by the copying block's name."""
    instructions = schedule.trace.insts
    positions = {k.instruction: position for position, k in enumerate(knobs)}
    fetch_knobs = {}
    for annotate in instructions:
        if annotate.kind.name == "Annotate" and str(annotate.attrs[0]) == _FETCH:
            block, width = annotate.inputs
            [sampling] = [i for i, ins in enumerate(instructions) if any(width.same_as(o) for o in ins.outputs)]
            fetch_knobs[str(schedule.get(block).name_hint)] = positions[sampling]
    return fetch_knobs


def blocks(statement: Any, loops: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every block under a statement with the loops around it, outermost first."""
    if isinstance(statement, tirx.SeqStmt):
        for child in statement.seq:
            yield from blocks(child, loops)
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


def _copies(loops: Sequence[Any]) -> int:
    """How many tiles of a staged operand are live at once: the stages of the pipeline around it, else 1."""
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
    numbers: dict[Any, int | None] = {v.var: number for number, v in enumerate(copy.iter_vars)}
    number = numbers.get(last)
    if number is None:
        return False
    *others, row = [_terms(axis.min, numbers) for axis in copy.reads[0].region]
    if row is None or any(terms is None for terms in others):
        return False
    in_others = [term for terms in others for term in terms or () if term.knob == number]
    return not in_others and [term for term in row if term.knob == number] == [IndexTerm(number)]


def _align(block: Any) -> tuple[int, int]:
    """TVM's StorageAlign (factor, offset) of the buffer that a block writes; (0, 0) without."""
    for entry in block.annotations.get("buffer_dim_align", ()):
        _, _, factor, offset = (int(n) for n in entry)
        return factor, offset
    return 0, 0


def _widths(schedule: Schedule, knobs: Sequence[Knob], vector: int) -> tuple[int, ...]:
    """The vector widths among which a knob picks; none for no knob (-1)."""
    return () if vector < 0 else tuple(int(n) for n in schedule.trace.insts[knobs[vector].instruction].attrs[0])


def _intrinsic(anchor: Any) -> tuple[int, int, int]:
    """m, n, k of the fragments: the extents of the blockized inner loops."""
    name = str(anchor.annotations[TENSORIZE])
    m, n, k = (int(x) for x in name.split("_")[2].split("x"))
    return m, n, k


def _dimensions(buffer: Any, region: Any, knob_of: Mapping[Any, int | None]) -> tuple[Dimension, ...]:
    """The dimensions of a staged operand: whole where the index is no sum of terms."""
    dimensions = []
    for extent, axis in zip(buffer.shape, region, strict=True):
        limit, terms = int(extent), _terms(axis.min, knob_of)
        whole = Dimension(limit, limit)
        dimensions.append(whole if terms is None else Dimension(limit, int(axis.extent), tuple(terms)))
    return tuple(dimensions)


def _terms(index: Any, knob_of: Mapping[Any, int | None], scale: int = 1) -> list[IndexTerm] | None:
    """An index as a sum of terms; None where it is not one."""
    if isinstance(index, tirx.IntImm):
        return []
    if isinstance(index, tirx.Var):
        if index not in knob_of:
            return None
        knob = knob_of[index]
        return [] if knob is None else [IndexTerm(knob, scale)]
    if isinstance(index, (tirx.Add, tirx.Sub)):
        left = _terms(index.a, knob_of, scale)
        right = _terms(index.b, knob_of, scale)
        return None if left is None or right is None else left + right
    if isinstance(index, tirx.Mul):
        for value, factor in ((index.a, index.b), (index.b, index.a)):
            if isinstance(factor, tirx.IntImm):
                return _terms(value, knob_of, scale * abs(int(factor)))
    if isinstance(index, (tirx.FloorDiv, tirx.FloorMod)) and isinstance(index.b, tirx.IntImm):
        inner = _terms(index.a, knob_of)
        if inner is not None and len(inner) == 1 and inner[0].coefficient == 1 and not inner[0].modulus:
            [only], by = inner, int(index.b)
            if isinstance(index, tirx.FloorDiv):
                return [IndexTerm(only.knob, scale, only.divisor * by)]
            return [IndexTerm(only.knob, scale, only.divisor, by)]
    return None


def _result_tile(buffer: Any, spatial: Sequence[int]) -> tuple[Dimension, ...]:
    """The dimensions that a tensor-core sketch stages of its results: a row of fragments of every warp, all columns.

    The staging buffer is [m outer, n outer, m inner, n inner, fragment, fragment], batch dimensions before. The sketch
    walks its rows of fragments, so only the warps' share of m is there at once.
    """
    *batch, m, n = spatial
    fragment = [Dimension(int(extent), int(extent)) for extent in buffer.shape[-2:]]
    rows, columns = Dimension(_UNLIMITED, 1, (IndexTerm(~m),)), Dimension(_UNLIMITED, 1, (IndexTerm(n),))
    return (*(Dimension(_UNLIMITED, 1, (IndexTerm(b),)) for b in batch), rows, columns, *fragment)
