"""A candidate as numbers of the same meaning for every workload.

The columns have names, and stored features are read by name. So a name never changes its meaning, and a new pass is a
new column.

| column | is |
|---|---|
| encoding.0 | 1 for the untuned program, of which all other columns are 0 |
| encoding.1 to .6 | 1 for sketch 0, 1, 2, 3, 4, and any later one |
| encoding.7 to .11 | log2 of the product over the spatial loops of their first, second ... fifth tile factors |
| encoding.12 to .14 | the same over the reduction loops, first to third |
| encoding.15 to .18 | log2 of the innermost factor of the last, second to last ... fourth to last spatial loop |
| encoding.19 to .21 | log2 of the outermost factor of the last, second to last and third to last spatial loop |
| encoding.22 to .25 | the first four decisions that are no tiles: locations and choices |
| pass.NAME | the setting of each pass, see `Pass.number` |
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from kernels.passes import PASSES
from kernels.space.data import Candidate, Sketch
from kernels.space.decision import as_factors

_SKETCHES, _SPATIAL, _REDUCE, _INNERMOST, _OUTERMOST, _OTHERS, _PASSES = 1, 7, 12, 15, 19, 22, 26
"""The first column of each group."""

ENCODING_COLUMNS: tuple[str, ...] = (*(f"encoding.{i}" for i in range(_PASSES)), *(f"pass.{name}" for name in PASSES))
ENCODING_LENGTH = len(ENCODING_COLUMNS)


def encode(candidate: Candidate, sketch: Sketch | None) -> NDArray[np.float32]:
    """The numbers of a candidate [ENCODING_LENGTH]; its sketch is None for the untuned program."""
    encoding = np.zeros(ENCODING_LENGTH, dtype=np.float32)
    if sketch is None:
        encoding[0] = 1
        return encoding
    encoding[_SKETCHES + min(candidate.sketch, 5)] = 1
    spatial = [as_factors(candidate.decisions[i]) for i, k in sketch.tiles if k.role == "spatial"]
    reduce = [as_factors(candidate.decisions[i]) for i, k in sketch.tiles if k.role == "reduce"]
    for first, tiles, levels in ((_SPATIAL, spatial, 5), (_REDUCE, reduce, 3)):
        for level, factors in enumerate(itertools.islice(itertools.zip_longest(*tiles, fillvalue=1), levels)):
            encoding[first + level] = math.log2(math.prod(factors))
    for i, factors in enumerate(reversed(spatial[-4:])):
        encoding[_INNERMOST + i] = math.log2(factors[-1])
    for i, factors in enumerate(reversed(spatial[-3:])):
        encoding[_OUTERMOST + i] = math.log2(factors[0])
    others = [d for d, k in zip(candidate.decisions, sketch.knobs, strict=True) if k.role in ("location", "choice")]
    for i, decision in enumerate(others[:4]):
        encoding[_OTHERS + i] = float(decision) if isinstance(decision, int) else 0.0
    encoding[_PASSES:] = candidate.passes.numbers()
    return encoding
