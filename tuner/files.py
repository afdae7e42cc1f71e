"""Files that are there whole or not at all, and what to do when one is damaged, locked, or cannot be written.

Everything that outlives a run is written aside, synced and renamed, so that a reader, a crash or a power cut
finds the old content or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tuner.errors import OutputError

_ROOM_BYTES = 1 << 20
"""Less room than this counts as a full disk: a kernel's object and library take some 100 KB, a record 3 KB."""


def followed(path: Path) -> Path:
    """The file that a path means: where it is a link, what that leads to, so that replacing it leaves the link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def is_special(path: Path) -> bool:
    """Whether a path is a pipe, a device, or another thing that is written to and not replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_aside(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, durably, and whole at every moment; a pipe or a device is written to. Raises
    OutputError."""
    path = followed(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if is_special(path):
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync(path.parent)  # the rename itself must survive a power cut
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written: {error.strerror}", "free some space, or allow writing there; then run again"
        ) from error


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_folder(made: Path, final: Path) -> None:
    """Move a finished folder into place of an earlier one. Raises OSError.

    A kill between the two renames leaves the earlier one beside it as `.NAME.old`; `finish_replacing` puts it back.
    """
    old = _old(final)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(final, old)
    os.replace(made, final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def finish_replacing(final: Path) -> None:
    """After a kill in the middle of `replace_folder`: the earlier folder is back, or what was left of it is gone."""
    old = _old(final)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        os.replace(old, final)


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def set_aside(path: Path, beside: Sequence[str] = (), instead: Path | None = None) -> Path:
    """Rename a damaged file to `NAME.damaged-N`, with those beside it (`NAME` + suffix); nothing is overwritten.

    `instead` takes its place in the same moment. Returns the new path. Raises OutputError.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        if instead is not None:
            os.link(path, aside)
        for suffix in beside:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{aside}{suffix}")
        if instead is None:
            os.rename(path, aside)
        else:
            os.replace(instead, path)
        sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path} is damaged and cannot be set aside: {error.strerror}", "move it away") from error
    return aside


def require_room(folder: Path) -> None:
    """Raise OutputError, saying why, unless something can be written in `folder` now."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_ROOM_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise OutputError(
            f"{folder}: nothing can be written there: {error.strerror}",
            "free some space, or allow writing there, and run again: what was recorded so far is kept",
        ) from error


def require_temporary_folder() -> None:
    """Raise OutputError unless there is a folder for temporary files (logs and sockets of child processes)."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OutputError(
            "no folder for temporary files can be written", "set TMPDIR to one that can; it needs a few MB"
        ) from error
    require_room(folder)


@contextmanager
def locked(path: Path, doing: str, *, of: str = "", passing: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on `path`, a file made for it. The system drops it when this process dies, however.

    `doing` names what the lock is for, in the message for who comes second, and `of` what it is the lock of: its folder
    unless given. `passing`: the file is removed again at the end. Raises OutputError.
    """
    descriptor = _taken(path, doing, of or str(path.parent))
    while passing and not _is(path, descriptor):  # who held it before has removed it meanwhile
        os.close(descriptor)
        descriptor = _taken(path, doing, of or str(path.parent))
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            if passing:
                with contextlib.suppress(OSError):
                    path.unlink()
    finally:
        os.close(descriptor)


def _taken(path: Path, doing: str, of: str) -> int:
    """A descriptor of the locked file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        reason = "it is a file, not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(
            f"{path.parent}: cannot be written: {reason}", "allow writing there, or choose another folder"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise OutputError(
                f"{path}: cannot be locked: {error.strerror}", "choose a folder on a local disk"
            ) from error
        raise OutputError(
            f"{of}: {doing} in it already (process {holder})",
            "wait for it, end it, or choose another one: two at once would disturb each other",
        ) from None
    return descriptor


def _is(path: Path, descriptor: int) -> bool:
    """Whether a path is still that of an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
