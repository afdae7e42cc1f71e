"""The base of passes: a pass is a frozen dataclass whose fields are its options, and one line of text.

A pass may act in six places: on the schedule before post-processing, on the scheduled function, as options of the
lowering (`PassContext`), as options of the target, on emitted CUDA source, and as options of its compiler.
`variants` lists the settings worth searching, with the most often best one first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.s_tir import Schedule


@dataclass(frozen=True)
class Pass:
    """Base of all passes. Every hook does nothing by default."""

    name: ClassVar[str]

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        """The settings worth searching on a kind of target; a search begins with the first."""
        return (cls(),)

    @classmethod
    def concerns(cls, module: tvm.IRModule) -> bool:
        """Whether the settings can make a difference for an unscheduled program."""
        return True

    def on_schedule(self, schedule: Schedule) -> None:
        """Change a schedule after its trace was applied and before it is post-processed."""

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        """Change a scheduled function that is about to be compiled."""
        return function

    def context_options(self) -> Mapping[str, Any]:
        """Options of `tvm.transform.PassContext` for lowering this kernel."""
        return {}

    def target_options(self) -> Mapping[str, Any]:
        """Attributes added to the target this kernel is compiled for."""
        return {}

    def on_source(self, source: str) -> str:
        """Change emitted CUDA source."""
        return source

    def compiler_options(self) -> tuple[str, ...]:
        """Options for the CUDA compiler, in a spelling that nvcc and NVRTC both accept."""
        return ()

    def number(self) -> float:
        """The setting as a number a cost model can learn from."""
        return float(sum(float(getattr(self, f.name)) for f in fields(self)))

    def to_text(self) -> str:
        """One line, e.g. `unroll{depth=512}`."""
        body = ",".join(f"{f.name}={int(getattr(self, f.name))}" for f in fields(self))
        return f"{self.name}{{{body}}}"
