"""The buffers a kernel works on, with guard bytes on both sides, and what is checked after a call.

A kernel that writes past a buffer spoils whatever lies there, often without a crash and often in the process of the
next candidate. One that leaves its output from the call before looks right as long as the inputs stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.tensors import TensorSpec, poison_value
from tuner.protocols import Array

MARGIN = 1 << 16
"""Guard bytes on each side: a few rows of an image, and whole pages, so that buffers lie in their pages as TVM's own
do. What is written beyond them is not seen."""

_GUARD = 0xA5


class GuardedBuffers:
    """Inputs and outputs of a kernel in memory of TVM's (numpy's own would have huge pages, which models have not).

    `tensors` are what the kernel is called with; inputs first. Outputs hold NaN, or an unlikely value, before a call.
    """

    def __init__(self, inputs: Sequence[Array], outputs: Sequence[TensorSpec]) -> None:
        self._guarded = [_Guarded(a.shape, a.dtype) for a in inputs]
        self._guarded += [_Guarded(spec.shape, np.dtype(spec.dtype)) for spec in outputs]
        self.tensors = [g.tensor for g in self._guarded]
        self._count = len(inputs)
        self.fill(inputs)

    def fill(self, inputs: Sequence[Array]) -> None:
        """New inputs, and outputs as if nothing had ever been written."""
        for held, given in zip(self.inputs, inputs, strict=True):
            np.copyto(held, given)
        for output in self.outputs:
            output.fill(poison_value(output.dtype))

    @property
    def inputs(self) -> list[Array]:
        """Views, not copies."""
        return [g.array for g in self._guarded[: self._count]]

    @property
    def outputs(self) -> list[Array]:
        """Views, not copies."""
        return [g.array for g in self._guarded[self._count :]]

    def fault(self, inputs: Sequence[Array]) -> str:
        """What the kernel did that it must not, or "": it wrote outside of a buffer, or changed its inputs."""
        for index, guarded in enumerate(self._guarded):
            where = f"input {index}" if index < self._count else f"output {index - self._count}"
            if side := guarded.trespass():
                return f"the kernel wrote {side} {where}"
        for index, (held, given) in enumerate(zip(self.inputs, inputs, strict=True)):
            if not np.array_equal(held, given):
                return f"the kernel changed input {index}"
        return ""


def tensor_on(array: Array) -> Any:
    """A tensor of TVM's on the memory of an array of whatever dtype."""
    import tvm

    if array.dtype.kind != "V":
        return tvm.runtime.from_dlpack(array)
    bits = tvm.runtime.from_dlpack(array.view(f"u{array.dtype.itemsize}"))  # numpy hands over no bfloat16
    return bits._create_view(array.shape, str(array.dtype))  # noqa: SLF001 - TVM has no public name for it


class _Guarded:
    """One buffer between its guard bytes."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        import tvm

        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raw = np.from_dlpack(tvm.runtime.empty((MARGIN + size + MARGIN,), "uint8"))
        self._before, self._after = raw[:MARGIN], raw[MARGIN + size :]
        self._before.fill(_GUARD)
        self._after.fill(_GUARD)
        self.array = raw[MARGIN : MARGIN + size].view(dtype).reshape(shape)
        self.tensor = tensor_on(self.array)

    def trespass(self) -> str:
        """How far outside of the buffer something was written, in words; "" when nothing was."""
        for side, guard in (("before", self._before), ("past", self._after)):
            changed = np.flatnonzero(guard != _GUARD)
            if changed.size:
                reach = MARGIN - int(changed[0]) if side == "before" else int(changed[-1]) + 1
                return f"{reach} bytes before the start of" if side == "before" else f"{reach} bytes past the end of"
        return ""
