"""Views: shapes and strides over a contiguous tensor, so that reshapes, transposes and slices are not copied."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

Index = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
"""For each axis of a base its index: a constant, plus (axis of the view, factor) for each axis that moves it."""


@dataclass(frozen=True)
class View:
    """Elements of the tensor `base`, which is contiguous and has the shape `whole`.

    Element [i0, i1, ...] of the view is element `offset + i0 * strides[0] + i1 * strides[1] + ...` of the base, times
    `factor`.
    """

    base: Any
    whole: tuple[int, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    factor: float = 1.0

    @staticmethod
    def of(base: Any, shape: Sequence[int]) -> View:
        """All of a tensor."""
        return View(base, tuple(shape), tuple(shape), contiguous(shape))

    @property
    def is_whole(self) -> bool:
        """Whether it has all elements of the base in their order, so that it is at most a reshape of it."""
        if self.offset or self.factor != 1 or math.prod(self.shape) != math.prod(self.whole):
            return False
        wanted = contiguous(self.shape)
        return all(n == 1 or s == w for n, s, w in zip(self.shape, self.strides, wanted, strict=True))

    def permuted(self, axes: Sequence[int]) -> View:
        """The view with its axes in another order."""
        return replace(self, shape=tuple(self.shape[a] for a in axes), strides=tuple(self.strides[a] for a in axes))

    def sliced(self, axis: int, begin: int, end: int) -> View:
        """Elements `begin` to `end` (exclusive) of one axis."""
        shape = tuple(end - begin if a == axis else n for a, n in enumerate(self.shape))
        return replace(self, shape=shape, offset=self.offset + begin * self.strides[axis])

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """The view with another shape of as many elements; None where only a copy has it."""
        axes = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n > 1]
        runs: list[tuple[int, int]] = []  # maximal runs of axes that are one axis of a longer extent
        for extent, stride in axes:
            if runs and runs[-1][1] == extent * stride:
                runs[-1] = (runs[-1][0] * extent, stride)
            else:
                runs.append((extent, stride))
        strides: list[int] = []
        for extent in reversed(shape):
            if extent == 1:
                strides.append(1)
                continue
            if not runs or runs[-1][0] % extent:
                return None
            left, stride = runs.pop()
            strides.append(stride)
            if left > extent:
                runs.append((left // extent, stride * extent))
        return replace(self, shape=tuple(shape), strides=tuple(reversed(strides)))

    def index(self) -> Index | None:
        """The base's indices as affine functions of the view's; None where an axis of the view crosses one of the base.

        `Call` it through `reader`.
        """
        moves: list[list[tuple[int, int]]] = [[] for _ in self.whole]
        reach = [0] * len(self.whole)
        steps = contiguous(self.whole)
        rest, start = self.offset, []
        for step in steps:
            start.append(rest // step)
            rest %= step
        for axis, (extent, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            if extent == 1:
                continue
            owner = next(a for a, step in enumerate(steps) if step <= stride and self.whole[a] > 1)
            if stride % steps[owner]:
                return None
            moves[owner].append((axis, stride // steps[owner]))
            reach[owner] += (extent - 1) * (stride // steps[owner])
        if any(s + r >= n for s, r, n in zip(start, reach, self.whole, strict=True)):
            return None
        return tuple((s, tuple(m)) for s, m in zip(start, moves, strict=True))

    def stored_order(self) -> list[int]:
        """The axes in the order in which the elements lie."""
        long = [a for a, n in enumerate(self.shape) if n > 1]
        by_stride = sorted(long, key=lambda a: -self.strides[a])
        if by_stride == long:
            return list(range(len(self.shape)))
        return [*(a for a, n in enumerate(self.shape) if n == 1), *by_stride]

    def order(self) -> tuple[int, ...] | None:
        """The axes of the base, in the order in which the view has them, where it is a transpose of all of it."""
        if self.offset or math.prod(self.shape) != math.prod(self.whole):
            return None
        steps = {s: a for a, (n, s) in enumerate(zip(self.whole, contiguous(self.whole), strict=True)) if n > 1}
        sizes = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n > 1]
        if len(sizes) != len(steps) or any(s not in steps or self.whole[steps[s]] != n for n, s in sizes):
            return None
        units = [a for a, n in enumerate(self.whole) if n == 1]
        return (*units, *(steps[s] for _, s in sizes))


def on_base(shape: Sequence[int], like: View) -> tuple[int, ...] | None:
    """The shape on the base of a view for an operand that is broadcast to the view; None where there is none."""
    full = (*(1,) * (len(like.shape) - len(shape)), *shape)
    if all(n == 1 for n in full):
        return (1,) if tuple(shape) == (1,) else ()
    if full == like.shape:
        return like.whole
    if [n for n in like.shape if n > 1] == [n for n in like.whole if n > 1]:
        long = iter([n for n, plain in zip(full, like.shape, strict=True) if plain > 1])
        return tuple(next(long) if n > 1 else 1 for n in like.whole)
    if like.shape[-1] == like.whole[-1] and all(n == 1 for n in full[:-1]):
        return (full[-1],)
    return None


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor, in elements."""
    return tuple(math.prod(shape[a + 1 :]) for a in range(len(shape)))


def reader(index: Index) -> Callable[[Any, Sequence[Any]], Any]:
    """Reads a TE tensor, the base, at the indices of a view."""

    def read(base: Any, at: Sequence[Any]) -> Any:
        return base[tuple(sum((at[axis] * factor for axis, factor in moves), start) for start, moves in index)]

    return read
