"""The target that is tuned for: a device, described as TVM wants it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.errors import MissingDevice, TargetError

INSTEAD = "use `target: llvm` to tune for this machine's CPU"

REFUSALS = (ValueError, TypeError, RuntimeError)  # what TVM raises for a target it cannot make


@dataclass(frozen=True)
class ResolvedTarget:
    """`kind` is a name of `devices.resolve.KINDS`, `text` the TVM target as canonical JSON, `device` the name of the
    hardware; `threads` are the host's, `features` its instruction sets or the architecture of a GPU."""

    kind: str
    text: str
    threads: int
    device: str
    features: tuple[str, ...] = ()

    def tvm(self) -> Any:
        """The TVM target."""
        from tvm.target import Target

        return Target(json.loads(self.text))


def canonical(spec: Mapping[str, Any]) -> str:
    """A TVM target's attributes as canonical JSON: stored measurements are found by it."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))


def threads_of(wanted: int | None, where: str = "target.threads") -> int:
    """The threads to use; None: every core this process may use. Raises TargetError for more than there are."""
    from tuner.environment import usable_threads  # late: it imports what only a resolved target needs

    usable = usable_threads()
    if wanted is not None and not 1 <= wanted <= usable:
        message = f"{where}: {wanted}, but this process may use {usable} core(s)"
        raise (MissingDevice if wanted > usable else TargetError)(message, "leave it out to use them all")
    return wanted or usable
