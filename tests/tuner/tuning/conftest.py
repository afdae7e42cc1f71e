"""A store in memory for the tests of the loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tuner.store import SqlStore


@pytest.fixture
def store() -> Iterator[SqlStore]:
    with SqlStore("sqlite://") as made:
        yield made
