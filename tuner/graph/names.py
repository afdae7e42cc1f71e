"""Short words for what follows a product in a kernel."""

from __future__ import annotations

import re

_WORDS = (
    (r"(?:_add)?_cast_multiply_round(?:_add)?_clip_cast(?=_|$)", "_requantize"),
    (r"(?:_cast(?:_subtract)?_cast|_cast(?:_subtract_cast)?)_multiply(?=_|$)", "_dequantize"),
    (r"_(?:divide|multiply)_round(?:_add)?_clip_cast(?=_|$)", "_quantize"),
)
"""Operators in a row, and one word for them."""


def shortened(name: str) -> str:
    """A kernel's name with the steps of quantization in one word each."""
    name = f"_{name}"
    for pattern, word in _WORDS:
        name = re.sub(pattern, word, name)
    return name.removeprefix("_")
