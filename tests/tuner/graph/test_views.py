"""Views show the same elements as numpy's reshapes, transposes and slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tuner.graph.views import View, reader

Step = tuple[str, Sequence[int]]

CHAINS: list[tuple[tuple[int, ...], list[Step]]] = [
    ((6, 8), [("reshape", (6, 2, 4)), ("permute", (1, 0, 2))]),
    ((6, 24), [("slice", (1, 8, 16)), ("reshape", (1, 6, 2, 4)), ("permute", (0, 2, 1, 3)), ("reshape", (2, 6, 4))]),
    ((6, 24), [("slice", (1, 8, 16)), ("reshape", (1, 6, 2, 4)), ("permute", (0, 2, 3, 1)), ("reshape", (2, 4, 6))]),
    ((2, 3, 4), [("permute", (2, 0, 1)), ("slice", (0, 1, 3)), ("slice", (2, 0, 2))]),
    ((12, 4), [("reshape", (3, 16))]),
    ((3, 1, 5), [("permute", (1, 0, 2)), ("reshape", (15,)), ("reshape", (5, 3))]),
]


def _both(whole: tuple[int, ...], chain: list[Step]) -> tuple[View, np.ndarray]:
    base = np.arange(np.prod(whole)).reshape(whole)
    view, expected = View.of(base, whole), base
    for kind, numbers in chain:
        if kind == "slice":
            axis, begin, end = numbers
            view = view.sliced(axis, begin, end)
            expected = expected.take(range(begin, end), axis)
        elif kind == "permute":
            view, expected = view.permuted(numbers), expected.transpose(numbers)
        else:
            reshaped = view.reshaped(numbers)
            assert reshaped is not None
            view, expected = reshaped, expected.reshape(numbers)
    return view, expected


@pytest.mark.parametrize(("whole", "chain"), CHAINS)
def test_a_view_is_what_numpy_shows(whole: tuple[int, ...], chain: list[Step]) -> None:
    view, expected = _both(whole, chain)
    flat = np.arange(np.prod(whole))
    offsets = sum(
        (np.asarray(i) * s for i, s in zip(np.indices(view.shape), view.strides, strict=True)), np.asarray(view.offset)
    )
    assert np.array_equal(flat[offsets], expected)


@pytest.mark.parametrize(("whole", "chain"), CHAINS)
def test_indices_of_the_base_are_those_of_numpy_or_none(whole: tuple[int, ...], chain: list[Step]) -> None:
    view, expected = _both(whole, chain)
    index = view.index()
    if index is None:
        assert chain[-1][1] in ((3, 16), (5, 3)), "only an axis that crosses those of the base has no affine index"
        return
    read = reader(index)
    shown: list[Any] = [read(view.base, at) for at in np.ndindex(*view.shape)]
    assert shown == list(expected.reshape(-1))


def test_a_transpose_cannot_be_reshaped_across_its_axes() -> None:
    assert View.of(None, (4, 6)).permuted((1, 0)).reshaped((24,)) is None


def test_a_transpose_of_all_names_its_axes() -> None:
    heads = View.of(None, (4, 128, 64)).reshaped((1, 4, 128, 64))
    assert heads is not None
    assert heads.permuted((0, 2, 1, 3)).order() == (1, 0, 2)
    assert heads.sliced(2, 0, 64).order() is None


def test_only_all_elements_in_their_order_are_whole() -> None:
    view = View.of(None, (4, 6))
    reshaped = view.reshaped((2, 2, 6))
    assert reshaped is not None and reshaped.is_whole
    assert not view.permuted((1, 0)).is_whole
    assert not view.sliced(0, 0, 2).is_whole
