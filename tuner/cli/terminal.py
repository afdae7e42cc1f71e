"""What the command line says: results go to stdout, everything else to stderr. The only place that prints."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from tuner import __version__
from tuner.progress import Progress, printable


class ReaderGone(Exception):
    """Whoever read our output stopped reading (`| head`)."""


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns under each other, two blanks apart."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max((len(r[i]) for r in cells if i < len(r) - 1), default=0) for i in range(max(map(len, cells)))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def say(text: str) -> None:
    try:
        print(text)
    except BrokenPipeError:
        _drop_output()


def flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> NoReturn:
    """Nobody reads stdout any more; what Python still holds for it must not raise again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise ReaderGone


def note(text: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed; the exit code still tells
        print(printable(text), file=sys.stderr)


def complain(text: str, hint: str, code: int) -> int:
    for line in [*text.splitlines(), *(f"  {line}" for line in hint.splitlines())]:
        note(line)
    return code


def write_details() -> str:
    """The traceback of the exception being handled, in a file that outlives us."""
    try:
        descriptor, file = tempfile.mkstemp(prefix="tuner-error-", suffix=".txt")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as details:
            details.write(f"tuner {__version__}: {shlex.join(sys.argv)}\n\n{traceback.format_exc()}")
    except OSError as error:
        return f"no file ({error.strerror})"
    return file


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    progress = Progress()
    try:
        yield progress
    finally:
        progress.close()
