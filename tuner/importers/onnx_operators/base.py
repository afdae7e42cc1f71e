"""What the torch forms of ONNX operators share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Axes = Sequence[int]

Forms = Mapping[str, Callable[..., Any]]
"""From the name of an operator to the function that computes it."""

Literals = Mapping[str, tuple[int, ...]]
"""From the name of an operator to the positions of its inputs that are Python numbers or lists (shapes, axes, bounds)
instead of tensors."""


def require(supported: bool, what: str) -> None:
    """Raise NotImplementedError unless `what` is supported."""
    if not supported:
        raise NotImplementedError(what)
