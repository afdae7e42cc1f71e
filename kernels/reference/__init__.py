"""Independent numerics: the outputs a tensor program must compute, by numpy and never by TVM.

`evaluate` walks unscheduled TensorIR (destination-passing, one root block over a sequence of loop
nests, as `te.create_prim_func` and relax's LegalizeOps and FuseTIR make it) block by block.

- Floating point is float64 throughout and is rounded only where the program casts explicitly, so the outputs do not
  depend on an order of operations. Integers keep their dtype.
- A block's iteration variables become broadcasting index axes ("atoms"). A variable that occurs as
  `v // c` or `v % c` is split into two atoms, so that grouped and packed layouts stay affine.
- A load whose indices are affine is a strided view; any other is a gather.
- A sum of products becomes a (batched) matrix product: that is im2col and BLAS for a convolution.
- Every step works in chunks, so that no temporary is much larger than CHUNK elements.
"""

from kernels.reference.domain import Unsupported
from kernels.reference.dtypes import EPSILON
from kernels.reference.evaluation import evaluate
from kernels.reference.tolerance import (
    ROUNDED,
    Expectation,
    compare,
    expectations,
    passing_sizes,
    reduction_length,
    rounding,
    tolerance,
    working_dtype,
)

__all__ = [
    "EPSILON",
    "ROUNDED",
    "Expectation",
    "Unsupported",
    "compare",
    "evaluate",
    "expectations",
    "passing_sizes",
    "reduction_length",
    "rounding",
    "tolerance",
    "working_dtype",
]
