"""The kernel-level passes, and the configuration made of one setting of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from kernels.passes.async_copy import AsyncCopy
from kernels.passes.balance import Balance
from kernels.passes.bank_padding import BankPadding
from kernels.passes.base import Pass, Place
from kernels.passes.borders import Borders
from kernels.passes.bounds import Bounds
from kernels.passes.coalesce import Coalesce
from kernels.passes.cse import CommonSubexpressions
from kernels.passes.cuda_math import CudaMath
from kernels.passes.fast_math import FastMath
from kernels.passes.fuse import Fuse
from kernels.passes.lanes import Lanes
from kernels.passes.llvm_opt import LlvmOpt
from kernels.passes.merged_shared import MergedShared
from kernels.passes.mma import Mma
from kernels.passes.noalias import NoAlias
from kernels.passes.persist import Persist
from kernels.passes.ptxas_opt import PtxasOpt
from kernels.passes.register_cap import RegisterCap
from kernels.passes.storage_rewrite import StorageRewrite
from kernels.passes.stream_k import StreamK
from kernels.passes.swizzle import Swizzle
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
        ThreadShare,
        Fuse,
        Bounds,
        Borders,
        Lanes,
        Balance,
        Coalesce,
        BankPadding,
        Mma,
        Swizzle,  # after those that say which lane accesses what, and which rows are padded
        StreamK,  # after those that need blocks; it leaves none of them to schedule
        Persist,
        Tensorize,
        VectorMath,  # after those that copy expressions: each copy then binds variables of its own
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

    def on_schedule(self, schedule: Schedule, target: Target) -> None:
        """Apply what acts on a schedule; of a pass whose setting is refused, its default."""
        for setting in self.settings:
            if Place.SCHEDULE in setting.places():
                refused = setting.refusal(schedule.mod["main"], target)
                (type(setting)() if refused else setting).on_schedule(schedule)

    def applied(self, function: tirx.PrimFunc, target: Target) -> Applied:
        """A scheduled function with what acts on it, one setting after the other, without those that are refused.

        The hooks find the target as the current one.
        """
        settings, refused = [], {}
        for setting in self.settings:
            acted = Place.SCHEDULE in setting.places()  # `on_schedule` has decided already
            if not acted and (reason := setting.refusal(function, target)):
                refused[setting.to_text()] = reason
                setting = type(setting)()
            settings.append(setting)
            with target:
                function = setting.on_function(function)
        return Applied(function, PassConfig(tuple(settings)), refused)

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


@dataclass(frozen=True)
class Applied:
    """A scheduled function, and what of a configuration was applied to it.

    `passes` has the default of each refused setting, and `refused` the reasons, by the settings' texts.
    """

    function: tirx.PrimFunc
    passes: PassConfig
    refused: Mapping[str, str]

    def counters(self, target: Target) -> dict[str, dict[str, float]]:
        """What each pass counts of the function, by the pass's name; passes that count nothing are left out."""
        with tvm.transform.PassContext(opt_level=3, config=self.passes.context_options()):
            counted = {s.name: dict(s.counters(self.function, target)) for s in self.passes.settings}
        return {name: values for name, values in counted.items() if values}
