"""What every Launchable, and what it prepares, promises. A test module subclasses the suite."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from tuner.protocols import Array, Launchable, Prepared

CALLS = 200


class LaunchableContract:
    """Fixtures: a `launchable`, made once for the class, `inputs` for it, and the outputs that are `expected`."""

    rtol = 1e-4

    @pytest.fixture(scope="class")
    @classmethod
    def launchable(cls) -> Launchable:
        raise NotImplementedError("the implementation's test module provides the launchable")

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls) -> list[Array]:
        raise NotImplementedError("the implementation's test module provides the inputs")

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls) -> list[Array]:
        raise NotImplementedError("the implementation's test module provides the outputs, in float64")

    def check(self, prepared: Prepared, expected: Sequence[Array]) -> None:
        outputs = prepared.outputs()
        assert len(outputs) == len(expected)
        for output, right in zip(outputs, expected, strict=True):
            assert type(output) is np.ndarray
            assert output.dtype == np.float32
            np.testing.assert_allclose(output, right, rtol=self.rtol, atol=self.rtol * np.abs(right).max())

    def test_it_has_a_name(self, launchable: Launchable) -> None:
        assert launchable.key
        assert launchable.key == launchable.key.strip()

    def test_the_outputs_are_right_after_one_call_and_after_more(
        self, launchable: Launchable, inputs: list[Array], expected: list[Array]
    ) -> None:
        prepared = launchable.prepare(inputs)
        for count in (1, 3, 30):
            prepared.launch(count)
            self.check(prepared, expected)

    def test_a_launch_makes_all_its_calls_before_it_returns(self, launchable: Launchable, inputs: list[Array]) -> None:
        prepared = launchable.prepare(inputs)
        prepared.launch(10)
        assert _seconds(prepared, CALLS) > 0.05 * CALLS * min(_seconds(prepared, 1) for _ in range(30))

    def test_the_inputs_are_fixed_once_it_is_prepared(
        self, launchable: Launchable, inputs: list[Array], expected: list[Array]
    ) -> None:
        given = [array.copy() for array in inputs]
        prepared = launchable.prepare(given)
        for array in given:
            array.fill(7)
        prepared.launch(1)
        self.check(prepared, expected)

    def test_the_caller_s_arrays_are_left_alone(self, launchable: Launchable, inputs: list[Array]) -> None:
        before = [array.copy() for array in inputs]
        launchable.prepare(inputs).launch(2)
        assert all(np.array_equal(a, b) for a, b in zip(before, inputs, strict=True))

    def test_two_that_are_prepared_do_not_share_their_outputs(
        self, launchable: Launchable, inputs: list[Array], expected: list[Array]
    ) -> None:
        first = launchable.prepare(inputs)
        second = launchable.prepare([np.ascontiguousarray(array[..., ::-1]) for array in inputs])
        first.launch(1)
        second.launch(1)
        self.check(first, expected)
        assert not np.allclose(second.outputs()[0], expected[0], rtol=1e-2)


def _seconds(prepared: Prepared, count: int) -> float:
    start = time.perf_counter()
    prepared.launch(count)
    return time.perf_counter() - start
