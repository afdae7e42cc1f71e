"""The precisions that a model's layers may compute in, and what a layer may lose by one. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT32, FLOAT16, BFLOAT16, FP8, INT8 = "float32", "float16", "bfloat16", "fp8", "int8"

LAYER_ERROR = 0.02
"""A layer of which narrower floating operands move the outputs by more than this share stays in float32. Operands
rounded to bfloat16 move those of a usual layer by 0.002 to 0.003, to float16 by 0.0003: more than ten times that are
sums that cancel."""

HEADROOM = 4.0
"""A layer whose operands are within this factor of the largest number of a type stays in float32: what is seen on the
inputs of a run is not the largest that there is."""


@dataclass(frozen=True)
class Floats:
    """Floating numbers narrower than float32: their unit roundoff, and the largest of them."""

    unit: float
    largest: float


FLOATS: Mapping[str, Floats] = {FLOAT16: Floats(2.0**-11, 65504.0), BFLOAT16: Floats(2.0**-8, 3.3895314e38)}
"""Those in which operands of layers may be, while sums are in float32. By the name of their dtype."""

NARROWER = (*FLOATS, INT8)
"""What `auto` chooses among, besides float32."""


def float_of_unit(unit: float) -> str:
    """The one of FLOATS with a unit roundoff; "" for another number."""
    return next((name for name, floats in FLOATS.items() if floats.unit == unit), "")
