"""The design space of one workload: sketches, their decisions, and a pass configuration.

Everything here is plain data that replays exactly: a sketch is TVM's trace as JSON, a candidate names
a sketch, one value for each of its knobs, and a pass configuration. A live schedule exists only
inside `TraceApplier.apply`.

| module | is |
|---|---|
| decision, data | Candidate, Knob, Sketch |
| tiles | ways to cut a loop into parts |
| constraints | what is legal, known without TVM |
| encoding | a candidate as numbers |
| seeds | analytical first guesses |
| transfer | what was fast for one workload, as a guess for another |
| design | DesignSpace: structure, moves, JSON |
| rules | sketches from TVM's schedule rules |
| gpu, gpu_solve | what a GPU sketch takes, as formulas of its decisions; drawing within its limits |
| gpu_rules | sketches for CUDA, with and without tensor cores |
| gpu_work, gpu_seeds | what the static judge is asked about a candidate; first guesses by its answers |
| replay | candidate -> schedule |
"""

from kernels.space.data import DEFAULT_SKETCH, Candidate, InvalidCandidate, Knob, Sketch
from kernels.space.decision import Decision
from kernels.space.design import DesignSpace
from kernels.space.encoding import ENCODING_LENGTH
from kernels.space.rules import generate, vector_lanes
from kernels.space.trace import TraceApplier

__all__ = [
    "DEFAULT_SKETCH",
    "ENCODING_LENGTH",
    "Candidate",
    "Decision",
    "DesignSpace",
    "InvalidCandidate",
    "Knob",
    "TraceApplier",
    "Sketch",
    "generate",
    "vector_lanes",
]
