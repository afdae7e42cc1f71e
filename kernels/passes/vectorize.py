"""How wide innermost loops are vectorized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.s_tir import Schedule

from kernels.passes.base import Pass

_KEY = "meta_schedule.vectorize"


@dataclass(frozen=True)
class Vectorize(Pass):
    """Fuse and vectorize innermost loops up to `extent` lanes; 0 turns vectorization off."""

    name: ClassVar[str] = "vectorize"
    extent: int = 64

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return tuple(cls(extent) for extent in (64, 32, 16))

    def on_schedule(self, schedule: Schedule) -> None:
        root = schedule.get_sblock("root", func_name="main")
        if _KEY in schedule.get(root).annotations:
            schedule.unannotate(root, _KEY)
            if self.extent:
                schedule.annotate(root, _KEY, self.extent)

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.extent else {"tirx.disable_vectorize": True}
