"""What was fast for one workload, as an initial candidate for another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernels.passes import PassConfig
from kernels.space.data import Candidate
from kernels.space.decision import Decision, as_factors
from kernels.space.tiles import nearest

if TYPE_CHECKING:
    from kernels.space.data import Knob
    from kernels.space.design import DesignSpace


def distance(space: DesignSpace, candidate: Candidate) -> float | None:
    """How much the loops of a candidate's workload differ from those of a space.

    The sum over the tiles of |log2| of the ratio of the two extents. The extents of the candidate's workload are in the
    candidate: they are the products of its tile factors. None where the space has no such sketch.
    """
    pairs = list(_pairs(space, candidate))
    if not pairs or any(not _same_kind(knob, decision) for knob, decision in pairs):
        return None
    return sum(abs(math.log2(_extent(decision) / _extent(knob.default))) for knob, decision in pairs)


def adapted(space: DesignSpace, candidate: Candidate) -> Candidate | None:
    """The candidate of a space that is most like one of another workload's.

    Tiles keep their inner factors and the outermost takes up the difference; passes stay as far as the space has them.
    None where the space has no such sketch, or the result is not legal.
    """
    if distance(space, candidate) is None:
        return None
    decisions = tuple(_fitted(knob, decision) for knob, decision in _pairs(space, candidate))
    searched = {setting for variants in space.pass_variants for setting in variants}
    passes = PassConfig()
    for setting in candidate.passes.settings:
        passes = passes.replace(setting) if setting in searched else passes
    result = Candidate(candidate.sketch, decisions, passes)
    return result if space.legal(result) else None


def _pairs(space: DesignSpace, candidate: Candidate) -> Iterator[tuple[Knob, Decision]]:
    """The knobs of the sketch with a candidate's number, each with its decision; none where their numbers differ."""
    if not 0 <= candidate.sketch < len(space.sketches):
        return
    knobs = space.sketches[candidate.sketch].knobs
    if len(knobs) == len(candidate.decisions):
        yield from zip(knobs, candidate.decisions, strict=True)


def _same_kind(knob: Knob, decision: Decision) -> bool:
    """Whether both are tiles of the same number of factors, or neither is a tile."""
    both_tiles_or_neither = isinstance(decision, tuple) == isinstance(knob.default, tuple)
    return both_tiles_or_neither and len(as_factors(decision)) == knob.num_factors


def _extent(decision: Decision) -> int:
    """The extent of the loop that a tile cuts; 1 for what is no tile."""
    return math.prod(decision) if isinstance(decision, tuple) else 1


def _fitted(knob: Knob, decision: Decision) -> Decision:
    if not isinstance(decision, tuple):
        return decision if decision in knob.index else knob.default
    inner = decision[1:]
    return nearest(knob, (max(knob.extent // math.prod(inner), 1), *inner))
