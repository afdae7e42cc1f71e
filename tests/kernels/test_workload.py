"""A workload is data: the same key everywhere, sizes that can be checked by hand, inputs that are never constant."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi

from kernels.workload import TensorSpec, Workload, from_prim_func, seeded_inputs


def matmul(m: int = 8, dtype: str = "float32", names: tuple[str, str] = ("a", "b")) -> tirx.PrimFunc:
    a, b = te.placeholder((m, 16), dtype, name=names[0]), te.placeholder((16, 4), dtype, name=names[1])
    return te.create_prim_func([a, b, topi.nn.matmul(a, b)])


def test_sizes() -> None:
    workload = from_prim_func(matmul(), "matmul")
    assert workload.flops == 2 * 8 * 16 * 4
    assert workload.bytes == 4 * (8 * 16 + 16 * 4 + 8 * 4)
    assert workload.inputs == (TensorSpec((8, 16), "float32"), TensorSpec((16, 4), "float32"))
    assert workload.outputs == (TensorSpec((8, 4), "float32"),)


def test_the_key_is_the_bodys_and_nothing_elses() -> None:
    workload = from_prim_func(matmul(), "matmul")
    assert from_prim_func(matmul().with_attr("global_symbol", "other"), "other", origin={"op": "x"}) == workload
    assert from_prim_func(matmul(m=9), "matmul").key != workload.key
    assert from_prim_func(matmul(dtype="float64"), "matmul").key != workload.key
    a = te.placeholder((8, 16), name="a")
    assert from_prim_func(te.create_prim_func([a, topi.exp(a)]), "matmul").key != workload.key
    assert len(workload.key) == 16
    assert set(workload.key) <= set("0123456789abcdef")


def test_through_json_and_back() -> None:
    workload = from_prim_func(matmul(), "matmul", origin={"op": "nn.matmul", "shapes": [[8, 16], [16, 4]]})
    restored = Workload.from_json(json.loads(json.dumps(workload.to_json())))
    assert restored == workload
    assert (restored.name, restored.args, restored.num_outputs, restored.flops, restored.origin) == (
        workload.name,
        workload.args,
        workload.num_outputs,
        workload.flops,
        workload.origin,
    )
    assert restored.module()["main"].script() == workload.module()["main"].script()


def test_a_symbolic_shape_is_rejected() -> None:
    n = tirx.Var("n", "int32")
    a = te.placeholder((n, 4), name="a")
    with pytest.raises(ValueError, match=r"any: argument .* symbolic"):
        from_prim_func(te.create_prim_func([a, topi.exp(a)]), "any")


def test_seeded_inputs() -> None:
    specs = (
        TensorSpec((200, 50), "float32"),
        TensorSpec((200,), "float16"),
        TensorSpec((200,), "int64"),
        TensorSpec((200,), "bool"),
    )
    first, repeated, other = seeded_inputs(specs, 3), seeded_inputs(specs, 3), seeded_inputs(specs, 4)
    for spec, x, y, z in zip(specs, first, repeated, other, strict=True):
        assert (x.shape, str(x.dtype)) == (spec.shape, spec.dtype)
        assert np.array_equal(x, y)
        assert not np.array_equal(x, z)
        assert len(np.unique(x)) > 1
        assert x.nbytes == spec.nbytes
    assert abs(first[0].mean()) < 0.05
    assert abs(first[0].std() - 1) < 0.05
    assert first[2].min() >= 0


def test_a_module_is_fresh_each_time() -> None:
    workload = from_prim_func(matmul(), "matmul")
    schedule = tvm.s_tir.Schedule(workload.module())
    loop = schedule.get_loops(schedule.get_sblock("T_matmul_NN"))[0]
    schedule.split(loop, [None, 2])
    assert workload.module()["main"].script() != schedule.mod["main"].script()


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("opaque", [False, True])
def test_indices_of_one_row_are_zero(rows: int, opaque: bool) -> None:
    """Where a table has one row, 1 would read beside it, and a scatter would write there."""
    table = te.placeholder((rows, 5), name="table")
    if opaque:
        indices, values = te.placeholder((64, 5), "int64", name="indices"), te.placeholder((64, 5), name="values")
        operands = [table, indices, values, topi.scatter_elements(table, indices, values, 0, "update")]
    else:
        indices = te.placeholder((64,), "int64", name="indices")
        operands = [table, indices, topi.take(table, indices, axis=0, mode="fast")]
    function = te.create_prim_func(operands)
    inputs = from_prim_func(function, "indexed").inputs
    assert inputs[1].largest == rows - 1
    assert seeded_inputs(inputs, 0)[1].max() == rows - 1
