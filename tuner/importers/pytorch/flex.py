"""FlexAttention as the products, the softmax and the user's own functions that it stands for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def plain_attention() -> Iterator[None]:
    """Here `flex_attention` computes by operators that can be exported, and run in any precision, one after the other:
    as one operator it is of a kind that neither exporters nor dispatch modes look into."""
    outer: Any = importlib.import_module("torch.nn.attention.flex_attention")
    inner: Any = importlib.import_module("torch._higher_order_ops.flex_attention")  # by name: the operator has it, too
    fused, compiled = inner.FlexAttentionHOP.__call__, outer._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG  # noqa: SLF001

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return inner.math_attention(*args, **kwargs)

    inner.FlexAttentionHOP.__call__ = call
    outer._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True  # noqa: SLF001  Dynamo refuses to work inside dispatch modes
    try:
        yield
    finally:
        inner.FlexAttentionHOP.__call__ = fused
        outer._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = compiled  # noqa: SLF001
