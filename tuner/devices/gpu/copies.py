"""Arguments in the memory of a device, in copies between guard bytes, and what a kernel left in them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

from kernels.tensors import TensorSpec, poison
from tuner.protocols import Array


class Buffer(Protocol):
    """Memory of the device with guard bytes around it."""

    def read(self, spec: TensorSpec) -> Array:
        """Its content."""

    def guards_hold(self) -> bool:
        """Whether the bytes around it are as they were."""

    def free(self) -> None:
        """Give it back. Errors are ignored: the context may be broken."""


B = TypeVar("B", bound=Buffer)


class ArgumentCopies(Generic[B]):
    """Fixed inputs, outputs that hold NaN, and workspaces of so many bytes: one copy or more of what a kernel is called
    on, each tensor a buffer. Methods raise GpuError.

    A subclass says how a buffer is made, and as what its device's errors are raised.
    """

    def __init__(self, inputs: Sequence[Array], outputs: Sequence[TensorSpec], workspaces: Sequence[int] = ()) -> None:
        self._inputs = list(inputs)
        self._input_specs = [TensorSpec(array.shape, str(array.dtype)) for array in inputs]
        self._outputs = tuple(outputs)
        self._workspaces = tuple(workspaces)
        self._copies: list[list[B]] = []

    def _buffer(self, nbytes: int, content: Array | None) -> B:
        """A buffer with this content, or with any where it is None."""
        raise NotImplementedError

    def _named(self) -> AbstractContextManager[None]:
        """Raises GpuError for the device's errors."""
        raise NotImplementedError

    def _copied(self, buffers: Sequence[B]) -> None:
        """Called with each new copy."""

    @property
    def nbytes(self) -> int:
        """Of the arguments, workspaces included."""
        return sum(spec.nbytes for spec in (*self._input_specs, *self._outputs)) + sum(self._workspaces)

    def copies(self, count: int) -> None:
        """See that there are at least `count` copies of everything that the kernel touches."""
        with self._named():
            while len(self._copies) < count:
                buffers: list[B] = []
                self._copies.append(buffers)  # at once, so that `free` finds what an error leaves half made
                for array in [*self._inputs, *(poison(spec) for spec in self._outputs)]:
                    buffers.append(self._buffer(array.nbytes, array))
                for nbytes in self._workspaces:
                    buffers.append(self._buffer(nbytes, None))
                self._copied(buffers)

    def outputs(self) -> list[Array]:
        """The outputs of the last call on the first copy; they stand behind the inputs."""
        with self._named():
            buffers = self._copies[0][len(self._inputs) :]
            return [buffer.read(spec) for buffer, spec in zip(buffers, self._outputs, strict=False)]

    def damage(self) -> str:
        """What the kernel changed that is not its output: its inputs, or bytes around any buffer. "" when nothing."""
        with self._named():
            for buffers in self._copies:
                for number, (spec, given) in enumerate(zip(self._input_specs, self._inputs, strict=True)):
                    if buffers[number].read(spec).tobytes() != given.tobytes():
                        return f"the kernel changed input {number}"
                for number, buffer in enumerate(buffers):
                    if not buffer.guards_hold():
                        return f"the kernel wrote outside argument {number}"
        return ""

    def free(self) -> None:
        """Give the memory back. Errors are ignored."""
        for buffers in self._copies:
            for buffer in buffers:
                buffer.free()
        self._copies.clear()
