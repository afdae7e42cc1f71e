"""A candidate as numbers of the same meaning for every workload."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from kernels.passes import PASSES
from kernels.space.data import Candidate, Sketch
from kernels.space.decision import as_parts

ENCODING_LENGTH = 26 + len(PASSES)


def encode(candidate: Candidate, sketch: Sketch | None) -> NDArray[np.float32]:
    """ENCODING_LENGTH numbers of a candidate; its sketch is None for the untuned program.

    Log2 of the tile products at each level, of the innermost factors of the last three spatial
    loops, the locations, the sketch, and the pass settings.
    """
    row = np.zeros(ENCODING_LENGTH, dtype=np.float32)
    if sketch is None:
        row[0] = 1
        return row
    row[1 + min(candidate.sketch, 5)] = 1
    spatial = [as_parts(candidate.decisions[i]) for i, k in sketch.tiles if k.role == "spatial"]
    reduce = [as_parts(candidate.decisions[i]) for i, k in sketch.tiles if k.role == "reduce"]
    for column, group, width in ((7, spatial, 5), (12, reduce, 3)):
        if group:
            for level, factors in enumerate(itertools.zip_longest(*group, fillvalue=1)):
                if level < width:
                    row[column + level] = math.log2(math.prod(factors))
    for i, parts in enumerate(reversed(spatial[-4:])):
        row[15 + i] = math.log2(parts[-1])
    for i, parts in enumerate(reversed(spatial[-3:])):
        row[19 + i] = math.log2(parts[0])
    others = [d for d, k in zip(candidate.decisions, sketch.knobs, strict=True) if k.role in ("location", "choice")]
    for i, decision in enumerate(others[:4]):
        row[22 + i] = float(decision) if isinstance(decision, int) else 0.0
    numbers = candidate.passes.numbers()
    row[26 : 26 + len(numbers)] = numbers
    return row
