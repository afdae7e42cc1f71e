"""Packages that baselines need: whether they are installed, which extra installs them, and their versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util


def missing(package: str, extra: str, module: str = "") -> str | None:
    """Why a baseline is not available: `package` (imported as `module`) is not installed. None where it is.

    `extra` is the extra of this project that installs it.
    """
    if importlib.util.find_spec(module or package) is not None:
        return None
    return f"the package {package!r} is not installed; pip install '.[{extra}]'"


def version_of(*packages: str) -> str:
    """The version of the first of these packages that is installed."""
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
    return "of an unknown version"
