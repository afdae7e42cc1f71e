"""The kinds of devices: the one table that names them, and what a run file's `target` means."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tuner.config import TargetConfig
from tuner.devices.target import REFUSALS, ResolvedTarget, threads_of
from tuner.errors import ConfigError, TargetError
from tuner.schema import did_you_mean

if TYPE_CHECKING:
    from tuner.caveats import Caveats
    from tuner.devices.device import DeviceKind

KINDS: dict[str, str] = {
    "cuda": "tuner.devices.cuda:CUDA",
    "simulated_cuda": "tuner.devices.cuda.simulated:SIMULATED_CUDA",
    "opencl": "tuner.devices.opencl:OPENCL",
    "llvm": "tuner.devices.cpu:CPU",
}
"""By name, which is that of the kind of TVM target: what describes it, as `module:name`. `auto` takes the first that
is here and is what it stands for."""

MODELS: dict[tuple[str, str], str] = {("cuda", "simulated"): "simulated_cuda"}
"""Kinds of devices whose TVM targets are of another kind, by that kind and the target's `model`."""

AUTO = "auto"

_THREADS = "threads"
"""A key of a run file's target, and no attribute of a TVM target."""

_COUNTS = (
    "max_threads_per_block", "max_num_threads", "max_shared_memory_per_block", "registers_per_block",
    "thread_warp_size", "num-cores",
)  # fmt: skip
"""Attributes of targets that TVM takes at any value, and spaces need to be positive."""


def kind_named(name: str) -> DeviceKind:
    """The kind of device with a name of `KINDS`. Raises KeyError."""
    module, _, attribute = KINDS[name].partition(":")
    kind: DeviceKind = getattr(importlib.import_module(module), attribute)
    return kind


def kind_of(target: ResolvedTarget) -> DeviceKind:
    """The kind of device that a target is of."""
    return kind_named(target.kind)


def on_host(target: ResolvedTarget) -> ResolvedTarget:
    """The CPU of this machine, for what is computed beside the device: where that is a CPU, the target itself."""
    return target if target.kind == "llvm" else kind_named("llvm").local(target.threads)


def caveats_of(target: ResolvedTarget) -> Caveats:
    """What the times are that are taken on a target's device."""
    return kind_of(target).caveats(target.device)


def kind_of_text(text: str) -> DeviceKind:
    """The kind of device of a TVM target's JSON, e.g. a stored one. Raises TargetError."""
    try:
        return kind_named(_name_of(json.loads(text)))
    except (ValueError, TypeError, KeyError) as error:
        raise TargetError(f"no kind of device is known for the target {text[:80]!r}") from error


def _name_of(spec: Mapping[str, Any]) -> str:
    """The name of the kind of device that a TVM target's attributes describe."""
    kind = str(spec["kind"])
    return MODELS.get((kind, str(spec.get("model", ""))), kind)


def all_kinds() -> list[DeviceKind]:
    """Every kind of KINDS, in its order."""
    return [kind_named(name) for name in KINDS]


def check(target: TargetConfig) -> None:
    """Raises ConfigError for a name that is no kind of device."""
    if isinstance(target.spec, str) and target.spec not in (AUTO, *KINDS):
        names = (AUTO, *KINDS)
        near = did_you_mean(target.spec, names)
        raise ConfigError("target.spec", f"expected {', '.join(names)} or a TVM target, not {target.spec!r}", near)


def check_keys(target: TargetConfig) -> None:
    """As `check`, and raises TargetError for an attribute that no target of its kind has; TVM is asked for them."""
    check(target)
    if isinstance(target.spec, Mapping):
        _check_keys(target.spec)


def _check_keys(spec: Mapping[str, Any]) -> None:
    from tvm.target import Target, TargetKind

    name = spec.get("kind")
    try:
        kind = kind_named(name) if isinstance(name, str) else None
        of_tvm = kind.tvm_kind if kind is not None else str(Target({"tag": spec["tag"]}).kind.name)
    except (KeyError, *REFUSALS):
        return  # what is no kind, or no tag, is refused where the target is made
    chosen = () if kind is None else kind.selectors
    known = sorted({"kind", "tag", *chosen, *TargetKind.options_from_name(of_tvm)})
    for key in spec:
        if key in known:
            continue
        near = did_you_mean(key, [*known, _THREADS])
        if _THREADS in (key, *near.split("'")):
            near = f"write {_THREADS} beside the target: target: {{spec: {{kind: ...}}, {_THREADS}: 2}}"
        raise TargetError(f"target.spec.{key}: unknown key", near or f"known here: {', '.join(known)}")


def resolve(target: TargetConfig, to_run: bool = True) -> ResolvedTarget:
    """The target to tune for. Raises TargetError when it is wrong, or when it is not here.

    With `to_run` False a full target of a kind that compiles without its device is accepted without one.
    """
    check_keys(target)
    threads = threads_of(target.threads)
    if isinstance(target.spec, Mapping):
        return _from_mapping(target.spec, target.threads, to_run)
    if target.spec == AUTO:
        return next(kind for kind in all_kinds() if kind.is_automatic()).local(threads)
    return kind_named(target.spec).local(threads)


def _from_mapping(spec: Mapping[str, Any], wanted: int | None, to_run: bool) -> ResolvedTarget:
    kind = spec.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        spec = kind_named(_name_of(spec)).completed(spec)
    full = _validated(spec)
    return kind_named(_name_of(full)).from_attributes(full, wanted, to_run)


def _validated(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping, a tag in it written out. TargetError names the field that TVM refuses."""
    from tvm.target import Target

    try:
        target = Target(dict(spec))
    except REFUSALS as error:
        raise _refused_field(spec) or TargetError(f"target.spec: TVM refuses it: {_first_sentence(error)}") from error
    for key in _COUNTS:
        if isinstance(spec.get(key), int) and spec[key] < 1:
            raise TargetError(f"target.spec.{key}: {spec[key]}, but at least 1 is needed",
                              "leave it out to use the device's own")  # fmt: skip
    kind = str(target.kind.name)
    if kind not in KINDS:
        names = sorted(KINDS, reverse=True)
        raise TargetError(f"target.spec.kind: expected {' or '.join(names)}, not {kind!r}", did_you_mean(kind, names))
    return dict(json.loads(str(target)) if "tag" in spec else spec)


def _refused_field(spec: Mapping[str, Any]) -> TargetError | None:
    """An error that names the field that TVM refuses: one is added at a time, and the first refusal is of the last one
    added."""
    from tvm.target import Target

    so_far: dict[str, Any] = {}
    for key in sorted(spec, key=lambda key: key not in ("tag", "kind")):
        so_far[key] = spec[key]
        try:
            Target(dict(so_far))
        except REFUSALS as error:
            return TargetError(f"target.spec.{key}: TVM refuses it: {_first_sentence(error)}")
    return None


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split(". ")[0]
