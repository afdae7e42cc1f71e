"""A service whose operations misbehave, for the tests of children."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time


class Hostile:
    def __init__(self, offset: int = 0) -> None:
        self._offset = offset

    def op_add(self, value: int) -> int:
        return self._offset + value

    def op_environment(self, name: str) -> str:
        return os.environ[name]

    def op_pid(self) -> int:
        return os.getpid()

    def op_fail(self) -> None:
        raise ValueError("as asked")

    def op_segfault(self) -> None:
        ctypes.string_at(0)

    def op_abort(self) -> None:
        os.abort()

    def op_leave(self) -> None:
        os._exit(7)

    def op_kill_self(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def op_hang(self) -> None:
        while True:
            time.sleep(1)

    def op_spawn(self) -> int:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid

    def op_flood(self) -> str:
        for _ in range(1000):
            print("x" * 1000)
        return "done"
