"""What is idle in the last wave, and how steps are divided: every step of every tile once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kernels.waves import Division, busiest, divided, idle_share, strided


def test_the_busiest_multiprocessor_of_equal_blocks_is_that_of_the_last_wave() -> None:
    for blocks, multiprocessors in itertools.product((1, 5, 131, 132, 133, 400), (1, 4, 132)):
        loads = [1.0] * blocks
        idle = 1.0 - sum(loads) / (busiest(loads, multiprocessors) * multiprocessors)
        assert idle == pytest.approx(idle_share(blocks, multiprocessors))
    assert busiest([], 4) == 0.0


def test_strided_tiles_are_all_tiles() -> None:
    for tiles, blocks in itertools.product((1, 2, 7, 12, 13), (1, 2, 3, 5, 12)):
        mine = [list(range(b, tiles, blocks)) for b in range(min(blocks, tiles))]
        assert strided(tiles, blocks) == [len(one) for one in mine]
        assert sorted(itertools.chain(*mine)) == list(range(tiles))


@pytest.mark.parametrize("seed", range(40))
def test_each_step_of_each_tile_is_computed_once_and_blocks_are_even(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles, steps, blocks = int(rng.integers(1, 30)), int(rng.integers(2, 12)), int(rng.integers(1, 20))
    whole = int(rng.integers(0, tiles // blocks + 1))
    division = Division(tiles, steps, blocks, whole)
    if division.cut * steps < blocks:
        return
    run = [piece for block in range(blocks) for piece in division.pieces(block)]
    assert all(begin < end for _, begin, end in run)
    assert sorted((tile, step) for tile, begin, end in run for step in range(begin, end)) == [
        (tile, step) for tile in range(tiles) for step in range(steps)
    ]
    loads = [sum(end - begin for _, begin, end in division.pieces(b)) for b in range(blocks)]
    assert loads == division.loads()
    assert max(loads) - min(loads) <= 1
    assert division.largest == max(loads)
    parts = [sum(tile == n + whole * blocks for tile, _, _ in run) for n in range(division.cut)]
    assert parts == [division.parts(n) for n in range(division.cut)]
    assert max(parts, default=1) <= division.most_parts
    assert division.cuts == any(count > 1 for count in parts)
    assert sum(count for count in parts if count > 1) <= division.most_partial
    assert all(division.begin(division.owner(s)) <= s < division.begin(division.owner(s) + 1)
               for s in range(division.cut * steps))  # fmt: skip


@pytest.mark.parametrize(
    ("tiles", "steps", "resident", "all_tiles", "expected"),
    [
        (133, 16, 132, False, "its last wave has 16 steps for 132 resident blocks"),
        (140, 32, 132, False, Division(140, 32, 132, 1)),
        (140, 32, 132, True, Division(140, 32, 132, 0)),
        (3, 4, 132, True, Division(3, 4, 12, 0)),
        (264, 32, 132, False, "its last wave is full: 264 tiles for 132 resident blocks"),
        (264, 32, 132, True, "no tile would be cut: 264 tiles for 132 blocks"),
        (140, 1, 132, True, "its reduction has a single step"),
        (133, 16, 132, True, Division(133, 16, 132, 0)),
    ],
)
def test_what_is_divided(tiles: int, steps: int, resident: int, all_tiles: bool, expected: Division | str) -> None:
    assert divided(tiles, steps, resident, all_tiles) == expected
