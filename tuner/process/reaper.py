"""A process that outlives its owner just long enough to kill what the owner would have killed.

A child dies with its parent (PR_SET_PDEATHSIG), but the compiler or linker that the child had started would go on. The
reaper holds a pipe that only the owner's death can close, and then kills each process group that it watches.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import multiprocessing.context
import os
import signal
from types import FrameType


class ProcessReaper:
    """Watches process groups on behalf of this process. One for all children of a process."""

    def __init__(self, context: multiprocessing.context.ForkServerContext) -> None:
        self._context = context
        self._groups: set[int] = set()
        self._owner = 0
        self._pipe: multiprocessing.connection.Connection | None = None

    def watch(self, group: int) -> None:
        """Have a process group killed when this process dies."""
        self._groups.add(group)
        self._tell(group)

    def forget(self, group: int) -> None:
        """A process group is gone: its number may be another's soon."""
        self._groups.discard(group)
        self._tell(-group)

    def _tell(self, message: int) -> None:
        if self._pipe is not None and self._owner == os.getpid():
            with contextlib.suppress(OSError):
                self._pipe.send_bytes(b"%d" % message)
                return
        self._start()  # at the first message, or after the reaper was killed

    def _start(self) -> None:
        """Start the reaper. Where that fails, children still die with their parent; the next message tries again."""
        self._owner = os.getpid()
        far_end, self._pipe = self._context.Pipe(duplex=False)
        try:
            self._context.Process(target=_reap, args=(far_end,), name="reaper", daemon=True).start()
            for group in self._groups:
                self._pipe.send_bytes(b"%d" % group)
        except (EOFError, OSError):
            self._pipe.close()
            self._pipe = None
        finally:
            far_end.close()


def _reap(pipe: multiprocessing.connection.Connection) -> None:
    """The reaper's main loop: a message is a group to watch, or the negative of one to forget."""
    os.setsid()  # out of reach of what the terminal or a killed group sends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)  # the owner's normal end
    groups: set[int] = set()
    try:
        while True:
            message = int(pipe.recv_bytes())
            groups.add(message) if message > 0 else groups.discard(-message)
    except (EOFError, OSError, SystemExit):
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit
