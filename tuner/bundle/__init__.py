"""A bundle: kernels compiled here, with everything a host with a GPU and without TVM needs to check and time them."""

from tuner.bundle.archive import Bundle, write
from tuner.bundle.expected import Expected, Judge, expect
from tuner.bundle.manifest import FORMAT, Argument, Item, Launch, Manifest, Plan, TaskEntry, read_manifest, read_plan

__all__ = [
    "FORMAT", "Argument", "Bundle", "Expected", "Item", "Judge", "Launch", "Manifest", "Plan", "TaskEntry", "expect",
    "read_manifest", "read_plan", "write",
]  # fmt: skip
