"""A bundle: compiled kernels, with everything that a machine with a GPU and no TVM needs to check and time them."""

from tuner.bundle.archive import Bundle, write
from tuner.bundle.expected import Expected, OutputChecker, expect
from tuner.bundle.manifest import FORMAT, Item, Manifest, TaskEntry, read_manifest

__all__ = [
    "FORMAT", "Bundle", "Expected", "Item", "Manifest", "OutputChecker", "TaskEntry", "expect",
    "read_manifest", "write",
]  # fmt: skip
