"""Layouts of memory: as small as what is in use at once, and never two blocks on the same bytes."""

from __future__ import annotations

import itertools
import random

import pytest

from tuner.graph.memory import Lifetime, arrange, first_overlap, most_in_use


def drawn(seed: int) -> list[Lifetime]:
    rng = random.Random(seed)
    steps = rng.choice([1, 3, 10, 40, 90])
    blocks = []
    for _ in range(steps):
        first = rng.randrange(steps)
        last = min(steps, first + int(rng.expovariate(0.3)))
        blocks.append(Lifetime(rng.choice([0, 1, 64, 100, 4096, rng.randrange(1, 10000)]), first, last))
    return blocks


def overlaps(blocks: list[Lifetime], offsets: tuple[int, ...]) -> bool:
    """By comparing each two."""
    return any(
        a.meets(b) and p < q + b.nbytes and q < p + a.nbytes
        for (a, p), (b, q) in itertools.combinations(zip(blocks, offsets, strict=True), 2)
        if a.nbytes and b.nbytes
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_blocks_lie_apart_and_close(seed: int) -> None:
    blocks = drawn(seed)
    layout = arrange(blocks, 64)
    assert not overlaps(blocks, layout.offsets)
    assert all(at % 64 == 0 for at in layout.offsets)
    assert layout.nbytes >= max(at + b.nbytes for b, at in zip(blocks, layout.offsets, strict=True))
    assert layout.lower_bound <= layout.nbytes <= 1.02 * layout.lower_bound
    for step in range(60):
        assert sum(b.nbytes for b in blocks if b.first <= step <= b.last) <= layout.lower_bound


@pytest.mark.parametrize("seed", range(200))
def test_the_check_sees_what_comparing_each_two_sees(seed: int) -> None:
    blocks, rng = drawn(seed % 20), random.Random(seed)
    offsets = list(arrange(blocks, 64).offsets)
    moved = rng.randrange(len(blocks))
    offsets[moved] = max(0, offsets[moved] + rng.choice([-4096, -64, -1, 0, 1, 64, 4096]))
    found = first_overlap(blocks, offsets)
    assert (found is not None) == overlaps(blocks, tuple(offsets))
    if found is not None:
        pair = [blocks[n] for n in found]
        assert overlaps(pair, tuple(offsets[n] for n in found))


def test_no_blocks_need_no_memory() -> None:
    assert arrange([], 64) == arrange([], 512)
    assert arrange([], 64).nbytes == most_in_use([]) == 0


def test_an_order_by_size_alone_would_be_larger() -> None:
    # 3 and 3 fit beside 4 and 2 only where the two 3s lie one above the other
    blocks = [Lifetime(400, 0, 1), Lifetime(300, 1, 3), Lifetime(300, 3, 5), Lifetime(200, 0, 5), Lifetime(400, 4, 6)]
    layout = arrange(blocks, 1)
    assert layout.nbytes == layout.lower_bound == 900
