"""Offsets for blocks of memory whose lifetimes are known: lifetimes -> offsets -> a proof that nothing overlaps.

Greedy-by-size assignment is of Pisarchyk, Lee, "Efficient Memory Management for Deep Neural Net Inference" (2020).
Where it misses the lower bound, other orders are tried, and then the blocks that stand highest are placed earlier.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_STEPS = 1_000_000
"""Comparisons of two blocks that an improvement may cost: under a second."""


@dataclass(frozen=True)
class Lifetime:
    """A block of `nbytes` that is in use from step `first` to step `last`, both included."""

    nbytes: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are in use at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Layout:
    """An offset for each block, in their order, and the bytes that hold all of them. `lower_bound` is the most bytes
    in use at one step: no layout is smaller."""

    offsets: tuple[int, ...]
    nbytes: int
    lower_bound: int


def arrange(blocks: Sequence[Lifetime], alignment: int) -> Layout:
    """A layout of blocks, each at a multiple of `alignment` bytes; a block of no bytes takes as many.

    Deterministic. It is checked by `first_overlap` before it is given away.
    """
    padded = [Lifetime(aligned(b.nbytes, alignment), b.first, b.last) for b in blocks]
    bound = most_in_use(padded)
    offsets = _best(padded, bound)
    overlap = first_overlap(padded, offsets)
    assert overlap is None, f"blocks {overlap} share bytes while both are in use"
    return Layout(tuple(offsets), _height(padded, offsets), bound)


def aligned(nbytes: int, alignment: int) -> int:
    """The least multiple of `alignment`, and not 0, that holds so many bytes."""
    return max(-(-nbytes // alignment) * alignment, alignment)


def most_in_use(blocks: Sequence[Lifetime]) -> int:
    """The most bytes that are in use at one step."""
    changes: dict[int, int] = {}
    for block in blocks:
        changes[block.first] = changes.get(block.first, 0) + block.nbytes
        changes[block.last + 1] = changes.get(block.last + 1, 0) - block.nbytes
    now = most = 0
    for step in sorted(changes):
        now += changes[step]
        most = max(most, now)
    return most


def first_overlap(blocks: Sequence[Lifetime], offsets: Sequence[int]) -> tuple[int, int] | None:
    """Two blocks that are in use at one step and share a byte; None where there are none.

    It plays the steps in order and keeps the blocks in use by address, so that it shares nothing with how offsets are
    found: each block that comes in is compared with its neighbours alone.
    """
    events = sorted(
        event
        for number, block in enumerate(blocks)
        if block.nbytes
        for event in ((block.first, 1, number), (block.last + 1, 0, number))
    )
    in_use: list[tuple[int, int]] = []  # (offset, number), by offset; at each moment apart from one another
    for _, begins, number in events:
        entry = (offsets[number], number)
        at = bisect.bisect_left(in_use, entry)
        if not begins:
            in_use.pop(at)
            continue
        if at and in_use[at - 1][0] + blocks[in_use[at - 1][1]].nbytes > entry[0]:
            return in_use[at - 1][1], number
        if at < len(in_use) and entry[0] + blocks[number].nbytes > in_use[at][0]:
            return number, in_use[at][1]
        in_use.insert(at, entry)
    return None


def _best(blocks: Sequence[Lifetime], bound: int) -> list[int]:
    """The offsets of the lowest layout found; the first that is as low as the bound ends the search."""
    best: list[int] = []
    lowest = -1
    for offsets in _attempts(blocks):
        height = _height(blocks, offsets)
        if lowest < 0 or height < lowest:
            best, lowest = offsets, height
        if lowest <= bound:
            break
    return best


def _attempts(blocks: Sequence[Lifetime]) -> Iterator[list[int]]:
    """Layouts by simple orders, then by orders in which the highest block of the last layout comes earlier."""
    neighbours = [[n for n, other in enumerate(blocks) if block.meets(other)] for block in blocks]
    keys: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda n: (-blocks[n].nbytes, blocks[n].first),
        lambda n: (-blocks[n].nbytes * (blocks[n].last - blocks[n].first + 1), n),
        lambda n: (blocks[n].first - blocks[n].last, -blocks[n].nbytes, n),
        lambda n: (-sum(blocks[other].nbytes for other in neighbours[n]), -blocks[n].nbytes, n),
        lambda n: (blocks[n].first, -blocks[n].nbytes, n),
    )
    orders = [sorted(range(len(blocks)), key=key) for key in keys]
    heights = []
    for order in orders:
        offsets = _placed(blocks, order, neighbours)
        heights.append(_height(blocks, offsets))
        yield offsets
    rounds = _STEPS // max(sum(map(len, neighbours)), 1)
    for order in sorted(orders, key=lambda order: heights[orders.index(order)])[:2]:
        yield from _raised(blocks, order, neighbours, rounds // 2)


def _raised(
    blocks: Sequence[Lifetime], order: list[int], neighbours: Sequence[Sequence[int]], rounds: int
) -> Iterator[list[int]]:
    """Layouts by orders of which each has the highest block of the one before by half of its places earlier."""
    seen: set[tuple[int, ...]] = set()
    for number in range(rounds):
        offsets = _placed(blocks, order, neighbours)
        yield offsets
        highest = max(order, key=lambda n: offsets[n] + blocks[n].nbytes)
        place = order.index(highest)
        order = [n for n in order if n != highest]
        order.insert(place // 2 if tuple(order) not in seen else number % (len(order) + 1), highest)
        seen.add(tuple(n for n in order if n != highest))


def _placed(blocks: Sequence[Lifetime], order: Sequence[int], neighbours: Sequence[Sequence[int]]) -> list[int]:
    """Offsets of blocks that are placed in an order, each at the lowest place that is free while it is in use."""
    offsets = [-1] * len(blocks)
    for number in order:
        taken = sorted((offsets[n], blocks[n].nbytes) for n in neighbours[number] if offsets[n] >= 0)
        at = 0
        for begin, nbytes in taken:
            if begin - at >= blocks[number].nbytes:
                break
            at = max(at, begin + nbytes)
        offsets[number] = at
    return offsets


def _height(blocks: Sequence[Lifetime], offsets: Sequence[int]) -> int:
    return max((at + block.nbytes for block, at in zip(blocks, offsets, strict=True)), default=0)
