"""What a pass is: a frozen dataclass whose fields are its options, one line of text that round-trips.

A pass may act in four places: on the schedule before post-processing, as options of the lowering
(`PassContext`), as options of the target, and as options of the CUDA compiler. `variants` lists what
is worth searching, the default first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from tvm.s_tir import Schedule


@dataclass(frozen=True)
class Pass:
    """Base of all passes. Every hook defaults to doing nothing."""

    name: ClassVar[str]

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        """The settings worth searching on this kind of target, the default first."""
        return (cls(),)

    def on_schedule(self, schedule: Schedule) -> None:
        """Change a schedule whose sketch has been applied and that is not post-processed yet."""

    def context_options(self) -> Mapping[str, Any]:
        """Options of `tvm.transform.PassContext` for lowering this kernel."""
        return {}

    def target_options(self) -> Mapping[str, Any]:
        """Attributes added to the target this kernel is compiled for."""
        return {}

    def compiler_options(self) -> tuple[str, ...]:
        """Options for the CUDA compiler, as nvcc and NVRTC both spell them."""
        return ()

    def number(self) -> float:
        """The setting as a number a cost model can learn from."""
        return float(sum(float(getattr(self, f.name)) for f in fields(self)))

    def to_text(self) -> str:
        """One line, e.g. `unroll{depth=512}`."""
        body = ",".join(f"{f.name}={int(getattr(self, f.name))}" for f in fields(self))
        return f"{self.name}{{{body}}}"
