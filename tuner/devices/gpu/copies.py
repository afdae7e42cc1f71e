"""What a kernel left in the copies of its arguments: its outputs, and what it must not have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kernels.tensors import TensorSpec
from tuner.protocols import Array


class Buffer(Protocol):
    """Memory of the device with guard bytes around it."""

    def read(self, spec: TensorSpec) -> Array:
        """Its content."""

    def guards_hold(self) -> bool:
        """Whether the bytes around it are as they were."""


def outputs_of(copies: Sequence[Sequence[Buffer]], inputs: int, outputs: Sequence[TensorSpec]) -> list[Array]:
    """The outputs of the last call on the first copy; they stand behind the inputs."""
    return [buffer.read(spec) for buffer, spec in zip(copies[0][inputs:], outputs, strict=False)]


def damage_of(copies: Sequence[Sequence[Buffer]], specs: Sequence[TensorSpec], inputs: Sequence[Array]) -> str:
    """What the kernel changed that is not its output: its inputs, or bytes around any buffer. "" when nothing."""
    for buffers in copies:
        for number, (spec, given) in enumerate(zip(specs, inputs, strict=True)):
            if buffers[number].read(spec).tobytes() != given.tobytes():
                return f"the kernel changed input {number}"
        for number, buffer in enumerate(buffers):
            if not buffer.guards_hold():
                return f"the kernel wrote outside argument {number}"
    return ""
