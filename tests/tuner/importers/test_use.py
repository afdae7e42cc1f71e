"""Arrays drawn from what an input's use allows: valid, seeded, never constant."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tuner.importers.use import MASKED, Use, drawn, words
from tuner.models import InputSpec
from tuner.protocols import Array

USES = [
    ("float32", (4, 32), Use()),
    ("float16", (4, 32), Use(low=0.1)),
    ("bfloat16", (4, 32), Use()),
    ("float32", (4, 32), Use(high=-1.0)),
    ("float64", (4, 32), Use(low=-1.0, high=1.0)),
    ("int64", (4, 32), Use(0, 9)),
    ("int64", (4, 32), Use()),
    ("int32", (4, 32), Use(low=1)),
    ("uint8", (4, 32), Use()),
    ("int8", (4, 32), Use()),
    ("uint64", (4, 32), Use()),
    ("bool", (4, 32), Use()),
    ("bool", (4, 1), Use()),
    ("int64", (2, 2), Use(include=(0.0,))),
]


def of(dtype: str, shape: tuple[int, ...], use: Use, seed: int = 0, name: str = "x") -> Array:
    return drawn(InputSpec(name, shape, dtype), use, seed)


@pytest.mark.parametrize(("dtype", "shape", "use"), USES)
def test_values_are_allowed_seeded_and_not_constant(dtype: str, shape: tuple[int, ...], use: Use) -> None:
    for seed in range(5):
        array = of(dtype, shape, use, seed)
        assert array.shape == shape
        assert str(array.dtype) == dtype
        values = array.astype(np.float64)
        assert (values >= use.low).all()
        assert (values <= use.high).all()
        assert len(np.unique(values)) > 1, "constant"
        assert (array == of(dtype, shape, use, seed)).all()
    assert Use.from_json(json.loads(json.dumps(use.to_json()))) == use
    assert words(InputSpec("x", shape, dtype), use)


@pytest.mark.parametrize("levels", [(1.0, 0.0), (0.0, 1.0), (0.0, MASKED)])
def test_every_row_of_a_mask_keeps_its_first_element_and_drops_some(levels: tuple[float, float]) -> None:
    for width in (2, 3, 64):
        mask = of("float32", (3, 5, width), Use(levels=levels))
        assert set(np.unique(mask)) == set(levels)
        assert (mask[..., 0] == levels[0]).all()
        assert (mask == levels[1]).any(axis=-1).all()
    assert (of("float32", (3, 1, 1), Use(levels=levels))[0] == levels[0]).all()


def test_a_bool_of_unknown_use_has_both_values_in_each_row() -> None:
    mask = of("bool", (6, 9), Use(mask=True))
    assert mask.any(axis=1).all()
    assert not mask.all(axis=1).any()
    assert {bool(of("bool", (), Use(), seed)) for seed in range(20)} == {True, False}


def test_a_single_integer_of_unknown_use_is_not_zero() -> None:
    assert all(of("int64", (), Use(), seed) > 0 for seed in range(20))


def test_bytes_use_their_whole_range() -> None:
    image = of("uint8", (1, 64, 64, 3), Use())
    assert image.min() == 0
    assert image.max() == 255
    assert of("int8", (64, 64), Use()).min() == -128


def test_indices_that_must_differ_do() -> None:
    rows = of("int64", (3, 8), Use(0, 7, distinct=True, axis=1))
    assert all(len(set(row)) == 8 for row in rows.tolist())
    pairs = of("int64", (6, 2), Use(0, 1, columns=(2, 3), distinct=True))
    assert sorted(map(tuple, pairs.tolist())) == [(i, j) for i in range(2) for j in range(3)]
    triples = of("int64", (200, 2), Use(0, 0, columns=(1, 50)))
    assert set(triples[:, 0]) == {0}
    assert triples[:, 1].max() > 40


def test_values_that_it_is_compared_with_are_among_the_others() -> None:
    ids = of("int64", (1, 64), Use(0, 49999, include=(3.0,)))
    assert 0 < (ids == 3).sum() < 64


def test_a_name_tells_of_a_mask_where_its_use_alone_does_not() -> None:
    assert set(np.unique(of("int64", (2, 9), Use(factor=True)))) == {0, 1}
    assert set(np.unique(of("float32", (2, 9), Use(factor=True), name="pad_mask"))) == {0, 1}
    assert set(np.unique(of("float32", (2, 9), Use(scores=True), name="attn_mask"))) == {0, MASKED}
    assert len(np.unique(of("float32", (2, 9), Use(scores=True), name="bias"))) > 10


def test_uses_together_allow_what_both_do() -> None:
    both = Use(0, 9).also(Use(2, 20, include=(5.0,)))
    assert (both.low, both.high, both.include) == (2, 9, (5.0,))
    assert Use(0, 1).also(Use(5, 9)).high == 1, "the first where they contradict each other"
    assert of("int64", (2,), Use(exact=(3.0, -1.0))).tolist() == [3, -1]
