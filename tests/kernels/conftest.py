"""What tests of several files need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernels.cuda_ground import Ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The simulated GPU, to execute candidates on; without it the test is skipped."""
    from tests import simulated_cuda
    from tests.kernels.cuda_ground import Ground

    simulated_cuda.require()
    made = Ground(tmp_path_factory.mktemp("cubins"))
    yield made
    made.close()
