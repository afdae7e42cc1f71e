"""Operators that neither TVM nor ONNX has, written with those that both have. Shapes must not depend on the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def histogram(values: Tensor, bins: int = 100, low: float = 0, high: float = 0) -> Tensor:
    """`aten.histc` between given bounds; the highest value belongs to the last bin."""
    if low >= high:
        raise ValueError("the bounds of a histogram must not depend on its values")
    flat = values.reshape(1, -1).to(torch.float64)
    places = torch.where(
        flat == high, torch.full_like(flat, bins - 1), torch.floor((flat - low) * (bins / (high - low)))
    )
    each = torch.arange(bins, dtype=torch.float64).reshape(-1, 1)
    return (places == each).to(values.dtype).sum(1)


def product_of_groups(
    rows: Tensor, matrices: Tensor, ends: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None
) -> Tensor:
    """The product of each group of rows with a matrix of its own; group g ends before row `ends[g]`.

    All rows are multiplied with all matrices, and of each row the right product is taken.
    """
    if rows.dim() != 2 or matrices.dim() != 3 or ends is None or bias is not None:
        raise ValueError("groups are of rows of one matrix, without a bias")
    every = torch.matmul(rows.unsqueeze(0), matrices)
    places = torch.arange(rows.shape[0]).reshape(1, -1)
    ended = (ends.to(torch.int64).reshape(-1, 1) <= places).to(torch.int64).sum(0)  # groups before the row's
    groups = torch.arange(matrices.shape[0]).reshape(-1, 1)
    chosen = (groups == ended.reshape(1, -1)).unsqueeze(2)
    result = torch.where(chosen, every, torch.zeros_like(every)).sum(0)
    return result if out_dtype is None else result.to(out_dtype)


GROUPED: Mapping[str, Callable[..., Any]] = {
    "aten._grouped_mm.default": product_of_groups,
    "transformers.grouped_mm_fallback.default": product_of_groups,
}
"""Those that torch itself computes in some types only."""

DECOMPOSITIONS: Mapping[str, Callable[..., Any]] = {"aten.histc.default": histogram, **GROUPED}
"""By the name of the operator, as a node of an exported program has it."""


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without those operators; itself where it has none."""
    found = {
        node.target: DECOMPOSITIONS[str(node.target)]
        for node in program.graph.nodes
        if str(node.target) in DECOMPOSITIONS
    }
    if not found:
        return program
    without: torch.export.ExportedProgram = program.run_decompositions(found)
    return without
