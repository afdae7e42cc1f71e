"""What a decision is: an index, or the parts that a loop is cut into, outermost first."""

from __future__ import annotations

Decision = int | tuple[int, ...]


def as_parts(decision: Decision) -> tuple[int, ...]:
    return decision if isinstance(decision, tuple) else (decision,)
