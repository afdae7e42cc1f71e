"""Fixtures of more than one room."""

from __future__ import annotations

import pytest

from kernels import nvrtc
from kernels.cubin import MissingCompiler, find_nvcc


@pytest.fixture
def compiler() -> None:
    """Skips, with the reason, where nothing compiles CUDA."""
    if nvrtc.library() is not None:
        return
    try:
        find_nvcc()
    except MissingCompiler as error:
        pytest.skip(str(error))
