"""The share of a product that is padding."""

from __future__ import annotations

import pytest
from tvm import te, topi

from kernels.padding import padded_share
from kernels.workload import Workload, from_prim_func


def _product(rows: int, depth: int, columns: int, flops: float | None) -> Workload:
    a, b = te.placeholder((rows, depth), name="a"), te.placeholder((columns, depth), name="b")
    function = te.create_prim_func([a, b, topi.nn.relu(topi.nn.dense(a, b))])
    return from_prim_func(function, "matmul", origin={} if flops is None else {"flops": flops})


def test_rows_and_steps_that_were_added_count() -> None:
    assert padded_share(_product(198, 80, 64, 2.0 * 197 * 79 * 64)) == pytest.approx(1 - 197 * 79 / (198 * 80))
    assert padded_share(_product(6, 8, 16, 2.0 * 6 * 8 * 16)) == 0.0


def test_where_the_own_arithmetic_or_a_reduction_is_not_known_nothing_is_said() -> None:
    assert padded_share(_product(6, 8, 16, None)) is None
    a = te.placeholder((4, 4), name="a")
    assert (
        padded_share(from_prim_func(te.create_prim_func([a, topi.nn.relu(a)]), "relu", origin={"flops": 16.0})) is None
    )
