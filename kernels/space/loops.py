"""Our sketch rule that leaves loops as they are, for passes that rewrite them: fusion, and reductions in vectors.

TVM's rules fuse the loops over all elements into one, whose quotients and remainders no vector can follow where the
extents are odd.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from kernels.nests.calls import calls
from kernels.passes.borders import Borders
from kernels.passes.bounds import Bounds
from kernels.passes.lanes import Lanes


def schedule_loops(schedule: Schedule) -> bool:
    """Inline what is computed element by element, and divide the outermost loop of every other stage among threads.

    False, with the schedule as it was, where the program has no reduction that `Lanes` or `Bounds` improves, and no
    border that `Borders` takes out of its loops.
    """
    if not any(kind.concerns(schedule.mod) for kind in (Lanes, Bounds, Borders)):
        return False
    *inner, last = schedule.get_child_blocks(schedule.get_sblock("root", func_name="main"))
    inlined = [block for block in inner if _is_cheap(schedule.get(block))]
    for block in inlined:
        schedule.compute_inline(block)
    for block in [*(b for b in inner if b not in inlined), last]:
        axes = zip(schedule.get_loops(block), schedule.get(block).iter_vars, strict=True)
        outermost = next((pair for pair in axes if int(pair[1].dom.extent) > 1), None)
        if outermost is not None and int(outermost[1].iter_type) == IterVar.DataPar:
            schedule.parallel(outermost[0])
    return True


def _is_cheap(block: Any) -> bool:
    """Whether a stage is computed element by element, and calls no function."""
    return not calls(block.body) and all(int(v.iter_type) == IterVar.DataPar for v in block.iter_vars)
