"""Which function of mathematics a call is of."""

from __future__ import annotations

import re

_IGNORED = re.compile(
    r"llvm\.(dbg|lifetime|assume|experimental\.noalias|donothing|annotation|invariant|sideeffect|stacksave|stackrestore)"
)
_LIBRARY = {
    name + suffix: name
    for name in ["exp", "log", "sqrt", "tanh", "sin", "cos", "pow", "fabs", "floor", "ceil", "exp2", "log2", "erf"]
    for suffix in ("", "f")
} | {"fmax": "maxnum", "fmaxf": "maxnum", "fmin": "minnum", "fminf": "minnum"}
_INTRINSIC = re.compile(
    r"llvm\.(exp|exp2|log|log2|sqrt|pow|fabs|floor|ceil|sin|cos|tanh|maxnum|minnum|maximum|minimum|fmuladd|fma|smax|smin|umax|umin|abs)"
    r"\.\w+$"
)


ALLOCATED = "malloc"
CLEARED = "calloc"


def is_allocation(callee: str) -> bool:
    """Whether a call returns memory that nothing else points to."""
    return callee in (ALLOCATED, CLEARED)


def is_without_effect(callee: str) -> bool:
    """Whether a call only tells the compiler something."""
    return _IGNORED.match(callee) is not None or callee in (ALLOCATED, "free")


def function_of(callee: str) -> str | None:
    """One name for the library's function and LLVM's intrinsic, of all types; None for any other function."""
    found = _INTRINSIC.match(callee)
    return found[1] if found else _LIBRARY.get(callee)
