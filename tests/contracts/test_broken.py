"""The suites of featurizers, launchables and kinds notice one that breaks its promise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.space import Candidate
from tests.contracts.broken import CANDIDATES, failing
from tests.contracts.device_kind import DeviceKindContract
from tests.contracts.featurizer import FeaturizerContract
from tests.contracts.launchable import LaunchableContract
from tests.contracts.strategy import EncodingFeaturizer
from tests.null_device import NullKind, space_of
from tuner.protocols import Array


class Unordered(EncodingFeaturizer):
    """Answers without repeating itself."""

    def vectors(self, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        return super().vectors(sorted(set(candidates), key=Candidate.to_text))


def test_a_broken_featurizer_is_noticed() -> None:
    suite = FeaturizerContract()
    suite.test_a_vector_does_not_depend_on_what_else_is_asked_for(EncodingFeaturizer(space_of()), CANDIDATES)
    with pytest.raises((AssertionError, IndexError)):
        suite.test_a_vector_does_not_depend_on_what_else_is_asked_for(Unordered(space_of()), CANDIDATES)
    with pytest.raises(AssertionError):
        suite.test_what_cannot_be_scheduled_has_none(EncodingFeaturizer(space_of()), CANDIDATES[1:], CANDIDATES[:1])


class Doubling:
    """A launchable that doubles; what `wrong` names is done wrongly."""

    key = "doubling"

    def __init__(self, wrong: str = "", inputs: Sequence[Array] = ()) -> None:
        self._wrong = wrong
        self._inputs = list(inputs) if wrong == "inputs" else [array.copy() for array in inputs]
        self._outputs: list[Array] = []

    def prepare(self, inputs: Sequence[Array]) -> Doubling:
        if self._wrong == "shared":
            self._inputs = [array.copy() for array in inputs]
            return self
        return Doubling(self._wrong, inputs)

    def launch(self, count: int) -> None:
        for _ in range(1 if self._wrong == "count" else count):
            self._outputs = [2 * array for array in self._inputs]

    def outputs(self) -> list[Array]:
        return [o.astype(np.float64) for o in self._outputs] if self._wrong == "dtype" else self._outputs


@pytest.mark.parametrize("wrong", ["", "count", "inputs", "shared", "dtype"])
def test_a_broken_launchable_is_noticed(wrong: str) -> None:
    inputs: list[Array] = [np.random.default_rng(0).standard_normal((64, 1024), dtype=np.float32)]
    expected: list[Array] = [2.0 * inputs[0].astype(np.float64)]
    suite, made = LaunchableContract(), Doubling(wrong)
    failed = failing(
        {
            "dtype": lambda: suite.test_the_outputs_are_right_after_one_call_and_after_more(made, inputs, expected),
            "count": lambda: suite.test_a_launch_makes_all_its_calls_before_it_returns(made, inputs),
            "inputs": lambda: suite.test_the_inputs_are_fixed_once_it_is_prepared(made, inputs, expected),
            "shared": lambda: suite.test_two_that_are_prepared_do_not_share_their_outputs(made, inputs, expected),
        }
    )
    assert (wrong in failed) if wrong else not failed


class Anywhere(NullKind):
    """Its scope forgets the target."""

    def scope(self, target: str, device: str, threads: int, mode: str) -> str:
        return super().scope("", device, threads, mode)


class Absent(NullKind):
    """It is not here, and opens all the same."""

    def is_here(self) -> bool:
        return False


def test_a_broken_kind_is_noticed() -> None:
    suite = DeviceKindContract()
    suite.test_a_scope_is_short_stable_and_of_one_target_and_mode(NullKind())
    with pytest.raises(AssertionError):
        suite.test_a_scope_is_short_stable_and_of_one_target_and_mode(Anywhere())
    with pytest.raises(pytest.fail.Exception):
        suite.test_the_local_one_is_described_or_what_is_missing_is_named(Absent())
