"""What was fast for one workload, as a first guess for another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernels.passes import PassConfig
from kernels.space.data import Candidate
from kernels.space.decision import Decision, as_parts
from kernels.space.tiles import nearest

if TYPE_CHECKING:
    from kernels.space.data import Knob
    from kernels.space.design import DesignSpace


def distance(space: DesignSpace, candidate: Candidate) -> float | None:
    """How much the loops of a candidate's workload differ from those of a space: the sum over its tiles of how many
    times their extents could be doubled. None where the space has no such sketch.

    A candidate says what its loops are: the factors of a tile multiply to the extent.
    """
    pairs = list(_pairs(space, candidate))
    if not pairs or any(not _alike(knob, decision) for knob, decision in pairs):
        return None
    return sum(abs(math.log2(_extent(decision) / _extent(knob.default))) for knob, decision in pairs)


def adapted(space: DesignSpace, candidate: Candidate) -> Candidate | None:
    """The candidate of a space that is most like one of another workload's: tiles keep their inner factors, the
    outermost takes up the difference, passes stay as far as the space has them.

    None where there is no such sketch, or where it is not legal.
    """
    if distance(space, candidate) is None:
        return None
    decisions = tuple(_fitted(knob, decision) for knob, decision in _pairs(space, candidate))
    known = {setting for variants in space.pass_variants for setting in variants}
    passes = PassConfig()
    for setting in candidate.passes.settings:
        passes = passes.replace(setting) if setting in known else passes
    found = Candidate(candidate.sketch, decisions, passes)
    return found if space.legal(found) else None


def _pairs(space: DesignSpace, candidate: Candidate) -> Iterator[tuple[Knob, Decision]]:
    """The knobs of the sketch with a candidate's number, each with its decision; none where their numbers differ."""
    if not 0 <= candidate.sketch < len(space.sketches):
        return
    knobs = space.sketches[candidate.sketch].knobs
    if len(knobs) == len(candidate.decisions):
        yield from zip(knobs, candidate.decisions, strict=True)


def _alike(knob: Knob, decision: Decision) -> bool:
    return isinstance(decision, tuple) == isinstance(knob.default, tuple) and len(as_parts(decision)) == len(
        as_parts(knob.default)
    )


def _extent(decision: Decision) -> int:
    return math.prod(decision) if isinstance(decision, tuple) else 1


def _fitted(knob: Knob, decision: Decision) -> Decision:
    if not isinstance(decision, tuple):
        return decision if decision in knob.index else knob.default
    inner = decision[1:]
    return nearest(knob, (max(_extent(knob.default) // math.prod(inner), 1), *inner))
