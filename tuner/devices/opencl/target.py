"""OpenCL devices as TVM targets. A child asks the drivers: this process must stay one that can be forked from."""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.devices.opencl.children import child_env
from tuner.devices.opencl.facts import Facts
from tuner.devices.target import INSTEAD, ResolvedTarget, canonical, threads_of
from tuner.errors import MissingDevice, TargetError
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

KIND = "opencl"

INSTALL = (
    "install the driver of the GPU and `pip install pyopencl`; PoCL, which needs no GPU, comes with "
    "`pip install -e '.[opencl]'`"
)
"""What to do where there is no device."""

NOT_HERE = "no such device here (compiling only)"

_LIST_TIMEOUT_S = 120.0
_SELECTORS = ("platform", "device")
_LIMITS = ("max_threads_per_block", "max_num_threads", "max_shared_memory_per_block")


@functools.lru_cache(maxsize=8)
def find_devices(threads: int) -> tuple[Facts, ...] | str:
    """The devices of this machine, GPUs first and CPUs last, or what is missing, in words."""
    if importlib.util.find_spec("pyopencl") is None:
        return "the package pyopencl"
    with tempfile.TemporaryDirectory(prefix="tuner-opencl-") as scratch:
        service, env = "tuner.devices.opencl.kernel_service:Listing", child_env(threads, Path(scratch))
        with Child(service, env=env) as child:
            try:
                found = [Facts.from_json(data) for data in child.call("list", _LIST_TIMEOUT_S)]
            except (ChildTimeout, ChildDied, ChildError) as error:
                return f"an OpenCL driver that works ({str(error)[:200]})"
    if not found:
        return "an OpenCL device (no driver offers one)"
    return tuple(sorted(found, key=lambda facts: (facts.is_cpu, facts.number)))


def is_gpu_here(threads: int) -> bool:
    """Whether this machine has a device that is not a CPU."""
    found = find_devices(threads)
    return not isinstance(found, str) and not found[0].is_cpu


def local(threads: int) -> ResolvedTarget:
    """The first GPU of this machine, or its first other device. Raises TargetError, saying what is missing."""
    return resolved(_present("target opencl", threads)[0], threads)


def resolved(facts: Facts, threads: int) -> ResolvedTarget:
    """The target of a device that is here."""
    spec = {"kind": KIND, "model": facts.model, **facts.limits}
    return ResolvedTarget(KIND, canonical(spec), threads, facts.label, (KIND,))


def completed(spec: Mapping[str, Any], threads: int) -> Mapping[str, Any]:
    """A run file's attributes, with the device that `platform` and `device` (a name, part of one, or a number) choose
    written as its `model`, and with its limits. Without a device here they stay as they are.

    Raises TargetError for a device that is not here, and for limits above the device's.
    """
    chosen = {key: spec[key] for key in _SELECTORS if key in spec}
    rest = {key: value for key, value in spec.items() if key not in _SELECTORS}
    if not chosen and {"model", *_LIMITS} <= spec.keys():
        return spec
    found = find_devices(threads)
    if isinstance(found, str):
        if chosen:
            raise MissingDevice(f"target.spec.{next(iter(chosen))}: missing here: {found}", f"{INSTALL}\nor {INSTEAD}")
        return rest
    if "model" in rest and not any(facts.model == rest["model"] for facts in found):
        return rest
    facts = _chosen(found, chosen) if "model" not in rest else _of_model(found, rest["model"])
    for name in _LIMITS:
        given = rest.get(name)
        if isinstance(given, int) and given > facts.limits[name]:
            raise TargetError(f"target.spec.{name}: {given}, but {facts.name} allows {facts.limits[name]}",
                              "leave it out to use the device's own")  # fmt: skip
    return {"model": facts.model, **facts.limits, **rest}


def from_attributes(spec: Mapping[str, Any], wanted: int | None, to_run: bool) -> ResolvedTarget:
    """The target that a run file writes out. With `to_run` False it is accepted without its device. Raises
    TargetError."""
    threads = threads_of(wanted)
    facts = device_of(canonical(spec), threads)
    if facts is None and to_run:
        found = _present("target.spec", threads)
        raise MissingDevice(
            f"target.spec.model: missing here: an OpenCL device {spec.get('model')!r}", _there_are(found)
        )
    if facts is None:
        return ResolvedTarget(KIND, canonical(spec), threads, NOT_HERE, (KIND,))
    return ResolvedTarget(KIND, canonical(spec), threads, facts.label, (KIND,))


def device_of(text: str, threads: int) -> Facts | None:
    """The device that a target's JSON names; None where it is not here."""
    found = find_devices(threads)
    model = json.loads(text).get("model")
    return None if isinstance(found, str) else next((facts for facts in found if facts.model == model), None)


def _present(where: str, threads: int) -> tuple[Facts, ...]:
    found = find_devices(threads)
    if isinstance(found, str):
        raise MissingDevice(f"{where}: missing here: {found}", f"{INSTALL}\nor {INSTEAD}")
    return found


def _of_model(found: Sequence[Facts], model: str) -> Facts:
    return next(facts for facts in found if facts.model == model)


def _chosen(found: Sequence[Facts], chosen: Mapping[str, Any]) -> Facts:
    """The first device that `platform` and `device` allow. Raises TargetError, listing what there is."""
    left = list(found)
    for key in _SELECTORS:
        if key not in chosen:
            continue
        wanted = chosen[key]
        if isinstance(wanted, bool) or not isinstance(wanted, (int, str)) or wanted == "":
            raise TargetError(f"target.spec.{key}: {wanted!r} is neither a name nor a number", _there_are(found))
        left = _named(left, key, wanted)
        if not left:
            raise MissingDevice(f"target.spec.{key}: missing here: {wanted!r}", _there_are(found))
    return left[0]


def _named(devices: Sequence[Facts], key: str, wanted: int | str) -> list[Facts]:
    """Those of a platform or device of a name, or of part of one; or the one of a number: a platform's among the
    platforms in the drivers' order, a device's among those that are left."""
    in_order = sorted(devices, key=lambda facts: facts.number)
    if isinstance(wanted, str):
        names = [facts.platform if key == "platform" else facts.name for facts in devices]
        return [facts for facts, name in zip(devices, names, strict=True) if wanted.lower() in name.lower()]
    if key == "device":
        return in_order[wanted : wanted + 1] if wanted >= 0 else []
    platforms = list(dict.fromkeys(facts.platform for facts in in_order))
    return [facts for facts in devices if facts.platform in platforms[wanted : wanted + 1]] if wanted >= 0 else []


def _there_are(found: Sequence[Facts]) -> str:
    in_order = sorted(found, key=lambda facts: facts.number)
    return "there are: " + "; ".join(f"{number}: {facts.model}" for number, facts in enumerate(in_order))
