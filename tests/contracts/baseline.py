"""What every Baseline promises. A test module subclasses the suite and gives it a baseline and a model for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.contracts.launchable import LaunchableContract
from tuner.protocols import Baseline, Launchable


class BaselineContract(LaunchableContract):
    """Fixtures: a `baseline`, and the `model_spec` that it can load, besides those of its launchable.

    One that cannot be had here must say why; the rest is then skipped for that reason.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def baseline(cls) -> Baseline:
        raise NotImplementedError("the implementation's test module provides the baseline")

    @pytest.fixture(scope="class")
    @classmethod
    def model_spec(cls) -> Mapping[str, Any]:
        raise NotImplementedError("the implementation's test module provides the model's spec")

    @pytest.fixture(scope="class")
    @classmethod
    def launchable(cls, baseline: Baseline, model_spec: Mapping[str, Any]) -> Launchable:
        reason = baseline.unavailable()
        if reason is not None:
            pytest.skip(reason)
        return baseline.load(model_spec, 1)

    def test_what_is_not_here_is_named(self, baseline: Baseline) -> None:
        reason = baseline.unavailable()
        assert reason is None or len(reason.split()) > 3
        assert baseline.unavailable() == reason

    def test_its_settings_are_words_for_the_report(self, baseline: Baseline) -> None:
        assert baseline.name == baseline.name.lower()
        assert any(character.isdigit() for character in baseline.settings), "no version is named"

    def test_what_it_loads_has_its_name(self, baseline: Baseline, launchable: Launchable) -> None:
        assert launchable.key == baseline.name
