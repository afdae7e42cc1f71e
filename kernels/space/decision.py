"""What a decision is: an index, or the factors of a tile, outermost first, whose product is the loop's extent."""

from __future__ import annotations

Decision = int | tuple[int, ...]


def as_factors(decision: Decision) -> tuple[int, ...]:
    """The tile factors of a decision; an index counts as its one factor."""
    return decision if isinstance(decision, tuple) else (decision,)
