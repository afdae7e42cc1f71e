"""Copies of constant operands: how many, that each call has the next ones, and what a kernel costs with them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from kernels.tensors import ConstantOperands
from tuner.devices.cpu.rotation import Rotation, arena_bytes, copies_of
from tuner.protocols import Array

MIB = 1 << 20


@pytest.mark.parametrize(
    ("sizes", "model_bytes", "copies"),
    [
        ([MIB], 100 * MIB, 64),  # twice the cache
        ([3 * MIB], 100 * MIB, 22),  # more, rather than less
        ([MIB], 10 * MIB, 10),  # a model that fits the cache leaves its constants there
        ([MIB // 2, MIB // 2], 100 * MIB, 64),  # all constants of a kernel count together
        ([64 * MIB], 100 * MIB, 1),  # larger than the caches: no copies are needed
        ([256], 100 * MIB, 4096),  # not more than can be made in time
        ([MIB], MIB, 1),  # the only constant of its model
        ([MIB], 0, 1),  # of no model
        ([], 100 * MIB, 1),
        ([0], 100 * MIB, 1),
    ],
)
def test_how_many_copies_take_turns(sizes: list[int], model_bytes: int, copies: int) -> None:
    assert copies_of(sizes, model_bytes, 32 * MIB) == copies


def test_their_memory_is_bounded() -> None:
    assert arena_bytes([3 * MIB], 100 * MIB, 32 * MIB) == 66 * MIB
    assert arena_bytes([100 * MIB], 1 << 40, 1 << 35) <= 1 << 30
    assert copies_of([2 << 30], 1 << 40, 1 << 35) == 1


def test_each_call_has_the_next_copies_and_the_same_other_arguments() -> None:
    rotation = Rotation(cache_bytes=500)
    inputs: list[Array] = [
        np.arange(8, dtype=np.float32),
        np.arange(64, dtype=np.float32),
        np.arange(3, dtype=np.int64),
    ]
    constants = ConstantOperands((1, 2), 10_000)
    assert rotation.fill(("a",), inputs, constants) == 4  # 1000 bytes; 256 and, aligned, 64 a copy
    calls = rotation.calls(["data", "weight", "bias", "out"], constants)
    assert [call[0] for call in calls] == ["data"] * 4
    assert [call[3] for call in calls] == ["out"] * 4
    for call in calls:
        np.testing.assert_array_equal(call[1].numpy(), inputs[1])
        np.testing.assert_array_equal(call[2].numpy(), inputs[2])
    addresses = {np.from_dlpack(call[position]).ctypes.data for call in calls for position in (1, 2)}
    assert len(addresses) == 8
    assert all(address % 64 == 0 for address in addresses)
    assert list(rotation.take(3)) == [0, 1, 2]
    assert list(rotation.take(3)) == [3, 0, 1]  # of another kernel on the same copies


def test_the_copies_are_those_of_the_inputs_last_filled_in() -> None:
    rotation, constants = Rotation(cache_bytes=256), ConstantOperands((0,), 10_000)
    for number in (1, 2):
        assert rotation.fill((number,), [np.full(32, number, np.float32)], constants) == 4
        [first, *_] = rotation.calls([None], constants)
        assert first[0].numpy()[0] == number
    assert rotation.fill(("no constants",), [np.zeros(32)], ConstantOperands()) == 0
    assert rotation.calls([None], ConstantOperands()) == []


def test_copies_of_bfloat16_are_tensors_of_it() -> None:
    weights = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    rotation = Rotation(cache_bytes=500)
    constants = ConstantOperands((0,), 10_000)
    assert rotation.fill(("a",), [weights], constants) > 1
    [first, *_] = (call[0] for call in rotation.calls(["weight"], constants))
    assert (tuple(first.shape), str(first.dtype)) == ((2, 3), "bfloat16")
    np.testing.assert_array_equal(first.numpy().view(ml_dtypes.bfloat16), weights)
