"""Sharing of intermediate buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.passes.base import Pass


@dataclass(frozen=True)
class StorageRewrite(Pass):
    """Let intermediate buffers of disjoint lifetimes share memory."""

    name: ClassVar[str] = "storage_rewrite"
    on: bool = True

    @classmethod
    def variants(cls, target_kind: str) -> tuple[Pass, ...]:
        return (cls(True), cls(False))

    def context_options(self) -> Mapping[str, Any]:
        return {} if self.on else {"tirx.disable_storage_rewrite": True}
