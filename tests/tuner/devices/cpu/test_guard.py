"""Canaries: every byte around a buffer is watched, and nothing is seen that did not happen."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.tensors import TensorSpec, poison_value, seeded_inputs
from tuner.devices.cpu.guard import MARGIN, GuardedBuffers

SPECS = (TensorSpec((3, 5), "float32"), TensorSpec((7,), "int8"))
OUTPUTS = (TensorSpec((2, 2), "float16"), TensorSpec((), "float32"))


def _raw(array: np.ndarray) -> np.ndarray:
    """An array with both its margins, as bytes."""
    size = MARGIN + array.nbytes + MARGIN
    start = array.__array_interface__["data"][0] - MARGIN
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray]:
    return seeded_inputs(SPECS, 0)


@settings(max_examples=60)
@given(buffer=st.integers(0, 3), past=st.booleans(), distance=st.integers(1, MARGIN))
def test_any_byte_outside_is_noticed(inputs: list[np.ndarray], buffer: int, past: bool, distance: int) -> None:
    buffers = GuardedBuffers(inputs, OUTPUTS)
    assert buffers.fault(inputs) == ""
    array = [*buffers.inputs, *buffers.outputs][buffer]
    raw = _raw(array)
    raw[MARGIN + array.nbytes + distance - 1 if past else MARGIN - distance] ^= 0x10
    name = f"input {buffer}" if buffer < 2 else f"output {buffer - 2}"
    side = "past the end of" if past else "before the start of"
    assert buffers.fault(inputs) == f"the kernel wrote {distance} bytes {side} {name}"


def test_what_is_inside_belongs_to_the_kernel(inputs: list[np.ndarray]) -> None:
    buffers = GuardedBuffers(inputs, OUTPUTS)
    for output in buffers.outputs:
        output[...] = 1
    assert buffers.fault(inputs) == ""
    buffers.inputs[1][6] += 1
    assert buffers.fault(inputs) == "the kernel changed input 1"


def test_tensors_and_arrays_are_the_same_memory(inputs: list[np.ndarray]) -> None:
    buffers = GuardedBuffers(inputs, OUTPUTS)
    for tensor, array in zip(buffers.tensors, [*buffers.inputs, *buffers.outputs], strict=True):
        assert tuple(tensor.shape) == array.shape
        assert str(tensor.dtype) == str(array.dtype)
        array.fill(3)
        assert (tensor.numpy() == 3).all()
        assert array.__array_interface__["data"][0] % 64 == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_filling_hides_what_was_there(dtype: str) -> None:
    [before], [after] = seeded_inputs((TensorSpec((9,), dtype),), 1), seeded_inputs((TensorSpec((9,), dtype),), 2)
    buffers = GuardedBuffers([before], [TensorSpec((4,), dtype)])
    buffers.outputs[0].fill(1)
    buffers.fill([after])
    np.testing.assert_array_equal(buffers.inputs[0], after)
    np.testing.assert_array_equal(buffers.outputs[0], np.full(4, poison_value(np.dtype(dtype)), dtype))
    assert buffers.fault([after]) == ""
