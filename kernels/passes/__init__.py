"""The kernel-level passes, and the configuration made of one setting of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from kernels.passes.async_copy import AsyncCopy
from kernels.passes.base import Pass
from kernels.passes.cse import CommonSubexpressions
from kernels.passes.cuda_math import CudaMath
from kernels.passes.fast_math import FastMath
from kernels.passes.llvm_opt import LlvmOpt
from kernels.passes.merged_shared import MergedShared
from kernels.passes.noalias import NoAlias
from kernels.passes.ptxas_opt import PtxasOpt
from kernels.passes.register_cap import RegisterCap
from kernels.passes.storage_rewrite import StorageRewrite
from kernels.passes.tensorize import Tensorize
from kernels.passes.thread_share import ThreadShare
from kernels.passes.unroll import Unroll
from kernels.passes.vector_math import VectorMath
from kernels.passes.vector_width import VectorWidth
from kernels.passes.vectorize import Vectorize

PASSES: Mapping[str, type[Pass]] = {
    p.name: p
    for p in (
        Unroll,
        Vectorize,
        VectorWidth,
        LlvmOpt,
        StorageRewrite,
        CommonSubexpressions,
        NoAlias,
        FastMath,
        AsyncCopy,
        MergedShared,
        CudaMath,
        PtxasOpt,
        RegisterCap,
        VectorMath,
        ThreadShare,
        Tensorize,
    )
}
"""Every kernel-level pass, in the order in which a configuration lists them."""

_TEXT = re.compile(r"(\w+)\{([^}]*)\}")


@dataclass(frozen=True)
class PassConfig:
    """One setting of each pass. The default configuration is `PassConfig()`."""

    settings: tuple[Pass, ...] = tuple(p() for p in PASSES.values())

    def replace(self, setting: Pass) -> PassConfig:
        """The configuration with one pass at another setting."""
        return PassConfig(tuple(setting if s.name == setting.name else s for s in self.settings))

    def on_schedule(self, schedule: Schedule) -> None:
        for setting in self.settings:
            setting.on_schedule(schedule)

    def on_function(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        for setting in self.settings:
            function = setting.on_function(function)
        return function

    def context_options(self) -> dict[str, Any]:
        return {key: value for s in self.settings for key, value in s.context_options().items()}

    def target_options(self, target: Mapping[str, Any]) -> dict[str, Any]:
        """The target with the attributes of every pass; lists (CPU features) are appended to."""
        merged = dict(target)
        for setting in self.settings:
            for key, value in setting.target_options().items():
                merged[key] = [*merged.get(key, ()), *value] if isinstance(value, list) else value
        return merged

    def on_source(self, source: str) -> str:
        for setting in self.settings:
            source = setting.on_source(source)
        return source

    def compiler_options(self) -> tuple[str, ...]:
        return tuple(option for s in self.settings for option in s.compiler_options())

    def numbers(self) -> tuple[float, ...]:
        """`Pass.number` of each setting, in the order of PASSES."""
        return tuple(s.number() for s in self.settings)

    def to_text(self) -> str:
        """Only what differs from the default, e.g. `unroll{depth=16} cse{on=0}`."""
        return " ".join(s.to_text() for s in self.settings if s != PASSES[s.name]())

    @staticmethod
    def from_text(text: str) -> PassConfig:
        """The inverse of `to_text`. Raises ValueError for an unknown pass or option, and for other text."""
        config = PassConfig()
        if _TEXT.sub("", text).strip():
            raise ValueError(f"not a pass configuration: {text!r}")
        for name, body in _TEXT.findall(text):
            if name not in PASSES:
                raise ValueError(f"unknown pass {name!r}; known: {', '.join(PASSES)}")
            kinds: dict[str, Any] = {f.name: type(f.default) for f in fields(PASSES[name])}
            options = {}
            for item in filter(None, body.split(",")):
                key, _, value = item.partition("=")
                if key not in kinds:
                    raise ValueError(f"pass {name} has no option {key!r}; it has: {', '.join(kinds)}")
                options[key] = kinds[key](int(value))
            config = config.replace(PASSES[name](**options))
        return config
