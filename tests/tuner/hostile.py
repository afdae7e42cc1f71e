"""A service whose operations misbehave, for the tests of children."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from unittest import mock

from tuner.process import limits


class Hostile:
    def __init__(self, offset: int = 0) -> None:
        self._offset = offset

    def op_add(self, value: int) -> int:
        return self._offset + value

    def op_environment(self, name: str) -> str:
        return os.environ[name]

    def op_pid(self) -> int:
        return os.getpid()

    def op_lock(self) -> list[str]:
        """Make a lock as progress bars do; the names that this process would have to take out of the system."""
        named: list[str] = []
        with mock.patch("multiprocessing.resource_tracker.register", lambda name, kind: named.append(name)):
            self.lock = multiprocessing.RLock()
        return named

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

    def op_spawn_orphan(self) -> int:
        """A process whose own parent has gone, as a compiler's helper may be."""
        orphan = [sys.executable, "-c", "import time; time.sleep(60)"]
        middle = f"import subprocess; print(subprocess.Popen({orphan!r}, stdout=subprocess.DEVNULL).pid)"
        return int(subprocess.run([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True).stdout)

    def op_hang_in_native_code(self) -> None:
        ctypes.PyDLL(None).sleep(1000)  # keeps the interpreter lock

    def op_flood(self) -> str:
        for _ in range(1000):
            print("x" * 1000)
        return "done"


class Limited:
    """Tries what limits forbid, and says how far it came."""

    def op_abort(self) -> None:
        os.abort()

    def op_core_limit(self) -> list[int]:
        return list(resource.getrlimit(resource.RLIMIT_CORE))

    def op_run_program(self) -> int:
        return subprocess.run(["true"], check=False).returncode

    def op_fork(self) -> None:
        if os.fork() == 0:
            os._exit(0)

    def op_leave_group(self) -> bool:
        if os.getpgid(0) != os.getpid():
            raise AssertionError("no leader of a group")
        os.setpgid(0, os.getpgid(os.getppid()))
        return True

    def op_program_leaves_group(self) -> int:
        return subprocess.run([sys.executable, "-c", "import os; os.setsid()"], check=False).returncode

    def op_threads(self, count: int) -> int:
        ready = threading.Barrier(count + 1)
        for _ in range(count):
            threading.Thread(target=ready.wait).start()
        ready.wait(timeout=5)
        return count

    def op_allocate(self, size: int) -> bool:
        """Native memory that is never touched."""
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        found = libc.malloc(ctypes.c_size_t(size))
        libc.free(ctypes.c_void_p(found))
        return found is not None

    def op_allocate_within(self, size: int, growth: int) -> bool:
        with limits.memory_growth(growth):
            return self.op_allocate(size)

    def op_write_file(self, size: int) -> int:
        with tempfile.TemporaryFile(buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.tell() < size:
                    file.write(bytes(1 << 20))
            return file.tell()

    def op_write_large_file(self, size: int) -> int:
        with limits.large_files():
            return self.op_write_file(size)
