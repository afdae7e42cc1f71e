"""A file system of its own, small enough to be filled up. Mounting it needs root."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SIZE = "24m"


class CannotMount(Exception):
    pass


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mounted at a folder. Raises CannotMount."""
    mount = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(folder)]
    if subprocess.run(mount).returncode:
        raise CannotMount
    try:
        yield
    finally:
        subprocess.run([shutil.which("umount") or "umount", str(folder)])


def fill(path: Path) -> None:
    """Take all the room there is, to the last kilobyte."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1 << 10):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
