"""What padding costs: the share of a kernel's multiply-adds that belong to no output."""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm.tirx import IterVar

from kernels.lowering import nodes
from kernels.workload import Workload


def padded_share(workload: Workload) -> float | None:
    """The share of the multiply-adds of a product or convolution that rows, columns, channels or steps make which were
    added for whole tiles and vectors.

    From the operator's own arithmetic, which the graph notes where it packs one (`origin`), and the extents of the
    program's largest reduction. None where that is not known.
    """
    own = workload.origin.get("flops")
    blocks = nodes(workload.module()["main"].body, tvm.s_tir.SBlock)
    computed = max(map(_iterations, blocks), default=0)
    if own is None or not computed:
        return None
    return max(0.0, 1.0 - float(own) / (2.0 * computed))


def _iterations(block: Any) -> int:
    """Of a reduction; 0 of other blocks."""
    reduces = any(int(v.iter_type) == IterVar.CommReduce for v in block.iter_vars)
    return math.prod(int(v.dom.extent) for v in block.iter_vars) if reduces else 0
