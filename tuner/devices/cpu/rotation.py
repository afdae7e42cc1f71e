"""A kernel's constant operands as it meets them inside a model: what the rest of the model reads has passed through the
caches since its last call.

Calls take copies of them in turn. Outputs and all other inputs stay where they are: a model's next kernel, too, finds
its input in the caches, as far as it fits, because the one before has just written it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kernels.tensors import ConstantOperands
from tuner.devices.cpu.guard import tensor_on
from tuner.devices.cpu.runner import last_level_cache_bytes
from tuner.protocols import Array

_CACHES = 2
"""What is reused only after so many times the last-level cache has been read is no longer in it."""

_MOST_COPIES = 4096
"""To make more takes longer than a trial. Operands this small (under 16 KiB where the cache has 32 MiB) are then in the
last-level cache, not in memory, as the reading of so few lines hardly tells."""

_MOST_BYTES = 1 << 30
"""Of memory for all copies together."""

_ALIGNMENT = 64


def copies_of(sizes: Sequence[int], model_bytes: int, cache_bytes: int) -> int:
    """How many copies of operands of these sizes (bytes) take turns.

    Together they are at least as large as what one inference reads of constants, or as twice the last-level cache where
    that is less: 1, no copies, where the operands alone are.
    """
    each = sum(map(_aligned, sizes))
    if each == 0:
        return 1
    wanted = min(_CACHES * cache_bytes, model_bytes)
    return max(1, min(math.ceil(wanted / each), _MOST_COPIES, _MOST_BYTES // each))


def arena_bytes(sizes: Sequence[int], model_bytes: int, cache_bytes: int) -> int:
    """The memory that the copies need."""
    return copies_of(sizes, model_bytes, cache_bytes) * sum(map(_aligned, sizes))


class Rotation:
    """The copies of one kernel's constants at a time, in memory that is used again for the next one's."""

    def __init__(self, cache_bytes: int | None = None) -> None:
        self._cache_bytes = last_level_cache_bytes() if cache_bytes is None else cache_bytes
        self._arena: Array = np.empty(0, np.uint8)
        self._holds: tuple[Any, ...] = ()
        self._copies: list[list[Any]] = []
        self._turns: Iterator[int] = iter(())

    def bytes_for(self, sizes: Sequence[int], constants: ConstantOperands) -> int:
        """The memory for the copies of a kernel's constants; `sizes` are those of all its inputs."""
        return arena_bytes([sizes[p] for p in constants.positions], constants.model_bytes, self._cache_bytes)

    def fill(self, key: tuple[Any, ...], inputs: Sequence[Array], constants: ConstantOperands) -> int:
        """Copy the constants among these inputs, unless those of `key` are here already. How many copies there are."""
        if self._holds == key:
            return len(self._copies)
        operands = [inputs[p] for p in constants.positions]
        count = copies_of([a.nbytes for a in operands], constants.model_bytes, self._cache_bytes)
        self._holds, self._copies = key, []
        if count > 1:
            self._copies = list(self._copied(operands, count))
        self._turns = itertools.cycle(range(max(count, 1)))
        return len(self._copies)

    def calls(self, tensors: Sequence[Any], constants: ConstantOperands) -> list[list[Any]]:
        """The arguments of a kernel's call on each copy; `tensors` are those of a call on none."""
        calls = []
        for copy in self._copies:
            arguments = list(tensors)
            for position, tensor in zip(constants.positions, copy, strict=True):
                arguments[position] = tensor
            calls.append(arguments)
        return calls

    def take(self, count: int) -> Iterator[int]:
        """The numbers of the next `count` copies. All kernels take from one series: what one has read is warm."""
        return itertools.islice(self._turns, count)

    def _copied(self, operands: Sequence[Array], count: int) -> Iterator[list[Any]]:
        memory = self._memory(count * sum(_aligned(a.nbytes) for a in operands))
        start = 0
        for _ in range(count):
            copy = []
            for operand in operands:
                held = memory[start : start + operand.nbytes].view(operand.dtype).reshape(operand.shape)
                np.copyto(held, operand)
                copy.append(tensor_on(held))
                start += _aligned(operand.nbytes)
            yield copy

    def _memory(self, size: int) -> Array:
        """Memory of TVM's: numpy's own would have huge pages, which models have not."""
        import tvm

        if self._arena.nbytes < size:
            self._arena = np.empty(0, np.uint8)  # given back first: the two need not be there at once
            self._arena = np.from_dlpack(tvm.runtime.empty((size,), "uint8"))
        return self._arena


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
