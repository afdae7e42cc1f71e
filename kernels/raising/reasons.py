"""Why a loop nest is left alone, as a code and a sentence."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A code for each way in which a nest is not proven to be a tensor computation."""

    ATOMIC = "atomic"
    CALL = "call"
    CARRIED = "loop-carried"
    CONTROL = "control-flow"
    DATA_BOUND = "data-dependent-bound"
    DATA_CONTROL = "data-dependent-control"
    EXITS = "several-exits"
    INDIRECT = "indirect"
    LARGE = "too-large"
    LINEAR = "not-multilinear"
    LIVE_OUT = "live-out"
    MEMORY_ORDER = "memory-order"
    NAN = "nan-order"
    NO_STORE = "no-result"
    OPERATOR = "operator"
    OVERWRITE = "overwrite"
    POINTER = "pointer"
    REASSOCIATION = "reassociation"
    SEMIRING = "semiring"
    SEQUENTIAL = "sequential"
    SIZES = "sizes"
    SUBSCRIPT = "subscript"
    TYPE = "type"
    UNREAD = "unread"
    VECTOR = "vectorised"
    VOLATILE = "volatile"
    WRAP = "wrap-around"


class MalformedIr(Exception):
    """What LLVM says of IR that it cannot read: one line, with line and column where it names them."""


class Abstained(Exception):
    """A nest is left alone. `line` is the source line where the reason stands, where it is known."""

    def __init__(self, reason: Reason, detail: str, line: int | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.line = line


def vector_instructions() -> Abstained:
    return Abstained(Reason.VECTOR, "vector instructions: compile with -fno-vectorize -fno-slp-vectorize")
