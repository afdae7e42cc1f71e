"""Packages that are there, and those that are not."""

from __future__ import annotations

import numpy

from tuner.baselines.packages import missing, version_of


def test_a_missing_package_names_the_extra_that_installs_it() -> None:
    reason = missing("no-such-package", "fast", "no_such_module")
    assert reason == "the package 'no-such-package' is not installed; pip install '.[fast]'"
    assert missing("NumPy", "fast", "numpy") is None


def test_the_first_package_that_is_installed_gives_the_version() -> None:
    assert version_of("no-such-package", "numpy") == numpy.__version__
    assert version_of("no-such-package") == "of an unknown version"
