"""The design space of one workload: sketches, their decisions, and a pass configuration.

Everything here is plain data that reproduces a program exactly: a sketch is TVM's trace as JSON; a candidate names a
sketch, one value for each of its knobs, and a pass configuration. A live schedule exists only inside
`TraceApplier.apply`.

| module | has |
|---|---|
| decision, data | Candidate, Knob, Limit, Sketch |
| tiles | ways to cut a loop into factors |
| constraints, solve | limits on tile factors; counting and drawing within them |
| rules | sketches from TVM's schedule rules |
| sketch_rules, packed, panels, rows | sketches from our own rules |
| gpu_rules | TVM's rules for CUDA, with and without tensor cores |
| gpu, gpu_formulas | the resources of a GPU sketch as formulas of its decisions; reading them off its program |
| gpu_solve | drawing within the limits of a GPU sketch |
| gpu_work | the work of a GPU candidate, for the analytical model |
| initial, gpu_initial | initial candidates |
| transfer | what was fast for one workload, as a candidate for another |
| encoding | a candidate as numbers |
| design | DesignSpace: structure, moves, JSON |
| trace | TraceApplier: candidate -> schedule |
| evolution | TVM's own search over the space |
"""

from kernels.space.data import DEFAULT_SKETCH, Candidate, InvalidCandidate, Knob, Sketch
from kernels.space.decision import Decision
from kernels.space.design import DesignSpace
from kernels.space.encoding import ENCODING_COLUMNS, ENCODING_LENGTH
from kernels.space.rules import generate, vector_lanes
from kernels.space.trace import TraceApplier

__all__ = [
    "DEFAULT_SKETCH",
    "ENCODING_COLUMNS",
    "ENCODING_LENGTH",
    "Candidate",
    "Decision",
    "DesignSpace",
    "InvalidCandidate",
    "Knob",
    "Sketch",
    "TraceApplier",
    "generate",
    "vector_lanes",
]
