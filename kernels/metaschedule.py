"""Imports TVM's MetaSchedule in seconds; a plain import takes half a minute."""

from __future__ import annotations

import functools
import inspect
import sys
from types import FrameType, ModuleType


def _stack_without_source(context: int = 1) -> list[inspect.FrameInfo]:
    """Like `inspect.stack`, but without reading source files: frames, file names and line numbers only."""
    frames: list[inspect.FrameInfo] = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - what inspect.stack itself does
    while frame is not None:
        frames.append(
            inspect.FrameInfo(frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, None, None)
        )
        frame = frame.f_back
    return frames


@functools.cache
def meta_schedule() -> ModuleType:
    """`tvm.s_tir.meta_schedule`, with `tvm.s_tir.tensor_intrin` loaded.

    The latter defines some 250 TVMScript functions, and each of them calls `inspect.stack()`, which reads the source of
    every frame: 22 s on a small machine. With frames only it takes 3 s. `inspect.stack` is replaced during the import.
    """
    original = inspect.stack
    inspect.stack = _stack_without_source
    try:
        import tvm.s_tir.meta_schedule
        import tvm.s_tir.tensor_intrin
    finally:
        inspect.stack = original
    module: ModuleType = tvm.s_tir.meta_schedule
    return module
