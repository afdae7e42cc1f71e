"""Wave quantization: what part of a GPU waits while the last thread blocks of a launch run, and how work is divided
among as many blocks as are resident. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


def idle_share(blocks: int, multiprocessors: int) -> float:
    """The part of the multiprocessors' time that is idle, 0 to 1, when thread blocks take equally long.

    The busiest multiprocessor has `ceil(blocks / multiprocessors)` of them, however many it holds at once: 133 blocks
    on 132 multiprocessors leave half of the time idle.
    """
    if blocks <= 0:
        return 1.0
    return 1.0 - blocks / (math.ceil(blocks / multiprocessors) * multiprocessors)


def busiest(loads: Sequence[float], multiprocessors: int) -> float:
    """The most work of a multiprocessor: block n, with `loads[n]`, is on multiprocessor n modulo their number."""
    return max((sum(loads[n::multiprocessors]) for n in range(min(multiprocessors, len(loads)))), default=0.0)


def strided(tiles: int, blocks: int) -> list[int]:
    """The tiles of each of `blocks` blocks, of which block b has b, b + blocks, ..."""
    return [-(-(tiles - block) // blocks) for block in range(min(blocks, tiles))]


@dataclass(frozen=True)
class Division:
    """How the tiles of a launch, each with `steps` steps of its reduction, are divided among `blocks` blocks.

    Block b computes whole tiles first: b, b + blocks, ..., `whole` of them. The steps of all other tiles, one tile
    after the other, are cut into one range for each block, of equal length, the first few with a step more. Each block
    has at least one of these steps.
    """

    tiles: int
    steps: int
    blocks: int
    whole: int = 0

    @property
    def cut(self) -> int:
        """The tiles whose steps are divided; they come last."""
        return self.tiles - self.whole * self.blocks

    @property
    def length(self) -> int:
        """The steps of a block's range; the first `longer` have one more."""
        return self.cut * self.steps // self.blocks

    @property
    def longer(self) -> int:
        return self.cut * self.steps % self.blocks

    def begin(self, block: int) -> int:
        """The first of a block's steps, of all divided ones."""
        return block * self.length + min(block, self.longer)

    def owner(self, step: int) -> int:
        """The block that has a step."""
        in_longer = self.longer * (self.length + 1)
        if step < in_longer:
            return step // (self.length + 1)
        return self.longer + (step - in_longer) // self.length

    def parts(self, tile: int) -> int:
        """Into how many parts the n-th divided tile is cut."""
        return self.owner((tile + 1) * self.steps - 1) - self.owner(tile * self.steps) + 1

    def pieces(self, block: int) -> Iterator[tuple[int, int, int]]:
        """(tile, first step, end) of all that a block computes, in its order."""
        for number in range(self.whole):
            yield block + number * self.blocks, 0, self.steps
        begin, end = self.begin(block), self.begin(block + 1)
        for tile in range(begin // self.steps, -(-end // self.steps)):
            first = tile * self.steps
            yield tile + self.whole * self.blocks, max(begin - first, 0), min(end - first, self.steps)

    def loads(self) -> list[int]:
        """The steps of each block."""
        return [self.whole * self.steps + self.begin(b + 1) - self.begin(b) for b in range(self.blocks)]

    @property
    def cuts(self) -> bool:
        """Whether any tile is cut: whether a range begins inside of one."""
        return any(self.begin(block) % self.steps for block in (1, self.longer + 1) if block < self.blocks)

    @property
    def most_partial(self) -> int:
        """How many parts of cut tiles there are at most: what is written to memory and read again."""
        return min(2 * (self.blocks - 1), self.blocks - 1 + self.cut)

    @property
    def most_parts(self) -> int:
        """Of a tile."""
        return -(-self.steps // self.length) + 1

    @property
    def largest(self) -> int:
        """The steps of the block that has the most."""
        return self.whole * self.steps + self.length + bool(self.longer)


def divided(tiles: int, steps: int, resident: int, all_tiles: bool) -> Division | str:
    """The tiles of a launch divided among as many blocks as are resident, all of them or those of the last wave; or why
    they are not."""
    if steps < 2:
        return "its reduction has a single step"
    whole = 0 if all_tiles else tiles // resident
    cut = tiles - whole * resident
    if not cut:
        return f"its last wave is full: {tiles} tiles for {resident} resident blocks"
    blocks = resident if whole else min(resident, cut * steps)
    if cut * steps < blocks:
        return f"its last wave has {cut * steps} steps for {blocks} resident blocks"
    made = Division(tiles, steps, blocks, whole)
    if not made.cuts:
        return f"no tile would be cut: {tiles} tiles for {blocks} blocks"
    return made
