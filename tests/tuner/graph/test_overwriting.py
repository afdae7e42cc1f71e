"""An output takes the place of an operand only where no element is read after it was overwritten."""

from __future__ import annotations

from typing import Any

import pytest
from tvm import te, tirx, topi
from tvm.target import Target

from tuner import importers
from tuner.graph import GraphConfig, clean, lower
from tuner.graph.overwriting import overwritten
from tuner.graph.plan import plan


def _of(make: Any, *shapes: tuple[int, ...], dtype: str = "float32") -> tuple[int, ...]:
    given = [te.placeholder(shape, dtype, name=f"x{n}") for n, shape in enumerate(shapes)]
    return overwritten(te.create_prim_func([*given, make(*given)]))


@pytest.mark.parametrize(
    ("make", "shapes", "expected"),
    [
        (lambda x: te.compute((4, 6), lambda i, j: x[i, j] * 2.0), [(4, 6)], (0,)),
        (lambda x, y: te.compute((4, 6), lambda i, j: x[i, j] + y[i, j]), [(4, 6), (4, 6)], (0, 1)),
        (lambda x, y: te.compute((4, 6), lambda i, j: x[i, j] + y[j]), [(4, 6), (6,)], (0,)),
        (lambda x: te.compute((4, 4), lambda i, j: x[j, i]), [(4, 4)], ()),
        (lambda x: te.compute((4, 4), lambda i, j: x[i, j] + x[i, 0]), [(4, 4)], ()),
        (lambda x: te.compute((8,), lambda i: x[tirx.Max(i - 1, 0)]), [(8,)], ()),
        (lambda x: te.compute((4, 6), lambda i, j: x[i, j].astype("float16")), [(4, 6)], ()),
        (topi.nn.softmax, [(4, 6)], ()),
        (lambda x: topi.sum(x, 1, keepdims=True), [(4, 1)], ()),
    ],
)  # fmt: skip
def test_only_element_by_element(make: Any, shapes: list[tuple[int, ...]], expected: tuple[int, ...]) -> None:
    assert _of(make, *shapes) == expected


def test_a_plan_in_place_needs_no_more_and_overwrites_nothing_else() -> None:
    target = Target({"kind": "llvm", "num-cores": 2})
    model = importers.load("torch:tests.tuner.graph.test_plan:branches", 1, {}, "random", 3)
    lowered = lower(clean(model.module), GraphConfig(fusion_depth=0), target)
    apart, over = plan(lowered), plan(lowered, in_place=True)
    assert over.live_bytes <= apart.live_bytes
    shared = 0
    for call in over.calls:
        *read, written = call.arguments
        shared += any(t.place == written.place for t in read)
        allowed = [read[n].place for n in overwritten(lowered.module[call.kernel])]
        assert all(t.place != written.place or t.place in allowed for t in read)
    assert shared
