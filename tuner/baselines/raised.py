"""Baselines of a raised function: its own code, as its author's compiler makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.baselines.blas import BLAS
from tuner.baselines.original import PRECISE, flags_of
from tuner.measure.entries import EntrySpec

REFERENCE = PRECISE
"""The one by which outputs are checked."""


def originals(model_spec: Mapping[str, Any]) -> list[EntrySpec]:
    """A raised function as its author's compiler makes it; with fast math where sums may be reordered, and with Polly
    where there is one; a contraction by numpy's BLAS. None for other models."""
    if "c" not in model_spec:
        return []
    c = model_spec["c"]
    reordered = model_spec["raising"]["allow_reassociation"] or c["reordered"]
    found = [
        EntrySpec(name, "tuner.baselines.original:OriginalWorker", {"c": c, "flags": flags})
        for name, flags in flags_of(c["function"], reordered).items()
    ]
    if "formula" in c:
        found.append(EntrySpec(BLAS, "tuner.baselines.blas:BlasWorker", {"c": c}))
    return found
