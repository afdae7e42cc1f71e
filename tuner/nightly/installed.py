"""What a night was measured with: versions that tell two builds of one version apart, and the machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner import environment


def versions(packages: Mapping[str, str]) -> dict[str, str]:
    """By package, its version and a digest of the build: two builds of one version differ in it.

    The digest is over the list of files that pip keeps (with their hashes), and for TVM over its libraries themselves.
    The C compiler that links, and the C library, are among them.
    """
    found = {name: f"{version}+{_build(name)}" for name, version in packages.items()}
    return found | {"linker": _linker(), "libc": "-".join(platform.libc_ver()), "python": platform.python_version()}


def machine(captured: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the machine itself, without packages."""
    facts = environment.stable_facts(captured)
    return {name: value for name, value in facts.items() if name not in ("packages", "python", "protocol_version")}


@functools.cache
def _build(name: str) -> str:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    digest = hashlib.sha256((distribution.read_text("RECORD") or "").encode())
    if name in environment.PINNED:
        for file in sorted(distribution.files or (), key=str):
            if file.name.endswith(".so"):
                digest.update(_content(Path(str(distribution.locate_file(file)))))
    return digest.hexdigest()[:8]


def _content(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


@functools.cache
def _linker() -> str:
    program = shutil.which("g++") or shutil.which("clang++")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(done.stdout.splitlines()), "")
