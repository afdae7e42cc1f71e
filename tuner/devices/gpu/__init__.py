"""What every GPU's device does alike: the rules of timing, the child that checks and times kernels, its bench."""

from __future__ import annotations


def why_not_narrower(precision: str) -> str:
    """Why a precision below float32 cannot be asked for on a GPU; see `DeviceKind.why_not`."""
    return f"{precision} is for CPUs; on this device a model in half precision is tuned as it is"
