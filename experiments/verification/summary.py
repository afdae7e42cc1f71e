"""What the file of this experiment comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One line on all models."""
    caught = sum(model.get("caught", 0) for model in found.values())
    missed = sum(len(model.get("missed", ())) for model in found.values())
    right = sum(model.get("right", 0) for model in found.values())
    refused = sum(len(model.get("refused", ())) for model in found.values())
    failed = sum("error" in model for model in found.values())
    told = f"{len(found)} models: {caught} of {caught + missed} faults seen; of {right} right results {refused} refused"
    return told + (f"; {failed} models could not be computed" if failed else "")


def missed(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, float]]:
    """Model, fault, and the largest change of an output, for each fault that was not seen."""
    return [(name.rpartition(":")[2], miss["fault"], miss["change"])
            for name, model in found.items() for miss in model.get("missed", ())]  # fmt: skip
