"""Disposable children: what can hang or crash runs in one, and the deadline lives in the parent.

Children are forked from one warm process (TVM imported, no thread pool started), each in a process
group of its own. They die with the parent, and a child that is late is killed with its whole group.
Messages are JSON on a pipe; nothing a child says is unpickled.

A *service* is a class named as `module:Class`; it is made in the child with keyword arguments and its
methods whose names begin with `op_` can be called.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tuner.errors import TunerError

_PRELOAD = ["kernels.preload"]
_PR_SET_PDEATHSIG = 1
_LEAVE_S = 2.0


class ChildTimeout(Exception):
    """The child missed its deadline and was killed."""


class ChildDied(Exception):
    """The child ended without answering; the message says how (signal or exit code)."""


class ChildError(Exception):
    """The operation raised in the child, which goes on living. `kind` is the exception's class name."""

    def __init__(self, kind: str, message: str, details: str = "") -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.details = details


class Child:
    """One child process that serves operations.

    `env` is set in the child before the service is imported (thread counts are read from it at
    import). `cpus` pins the child.
    """

    def __init__(
        self,
        service: str,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cpus: Sequence[int] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        self._pipe, far_end = context.Pipe()
        handle, self._log = tempfile.mkstemp(prefix="tuner-child-", suffix=".log")
        os.close(handle)
        arguments = json.dumps(
            {
                "service": service,
                "settings": dict(settings or {}),
                "env": dict(env or {}),
                "cpus": cpus,
                "log": self._log,
                "parent": os.getpid(),
            }
        )
        self._process = context.Process(target=_serve, args=(far_end, arguments), daemon=True)
        self._process.start()
        far_end.close()
        self._closed = False

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def submit(self, op: str, **arguments: Any) -> None:
        """Send an operation; its answer is fetched by `result`. One at a time."""
        try:
            self._pipe.send_bytes(json.dumps([op, arguments]).encode())
        except (BrokenPipeError, ConnectionResetError, OSError) as error:
            raise ChildDied(self._obituary()) from error

    def ready(self, timeout_s: float = 0.0) -> bool:
        """Whether an answer (or the child's death) is there to be fetched."""
        return self._pipe.poll(timeout_s)

    @property
    def connection(self) -> multiprocessing.connection.Connection:
        """For `multiprocessing.connection.wait` over several children."""
        return self._pipe

    def result(self, timeout_s: float) -> Any:
        """The answer to the last `submit`. Raises ChildTimeout, ChildDied or ChildError."""
        if not self._pipe.poll(max(timeout_s, 0.0)):
            self.kill()
            raise ChildTimeout(f"no answer within {timeout_s:.3g} s")
        try:
            reply = json.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionResetError, OSError) as error:
            raise ChildDied(self._obituary()) from error
        if "error" in reply:
            raise ChildError(reply["kind"], reply["error"], reply["details"])
        return reply["value"]

    def call(self, op: str, timeout_s: float, **arguments: Any) -> Any:
        """`submit`, then `result`."""
        self.submit(op, **arguments)
        return self.result(timeout_s)

    def alive(self) -> bool:
        return not self._closed and self._process.is_alive()

    def kill(self) -> None:
        """Kill the child with everything it started, wait until it is gone, and drop its log."""
        if self._closed:
            return
        self._closed = True
        self._pipe.close()
        if self._process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._process.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log)

    def close(self) -> None:
        """Let an idle child leave by itself, which lets libraries tidy up; kill it when it does not."""
        if not self._closed:
            self._pipe.close()
            self._process.join(timeout=_LEAVE_S)
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _obituary(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        last = _last_lines(self._log)
        self.kill()
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}{last}"
        return f"exited with code {code}{last}"


def _last_lines(path: str, limit: int = 300) -> str:
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.path.getsize(path) - limit))
            text = log.read().decode(errors="replace").strip()
    except OSError:
        return ""
    return f"; it last said: {text}" if text else ""


def _serve(pipe: multiprocessing.connection.Connection, arguments: str) -> None:
    """The child's main loop."""
    order = json.loads(arguments)
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    os.environ.update(order["env"])
    if order["cpus"] is not None:
        os.sched_setaffinity(0, order["cpus"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    module, _, name = order["service"].partition(":")
    service: Any = None
    while True:
        try:
            op, args = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        started = time.perf_counter()
        try:
            if service is None:
                service = getattr(importlib.import_module(module), name)(**order["settings"])
            reply: dict[str, Any] = {"value": getattr(service, f"op_{op}")(**args)}
        except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a typed answer
            message = error.message if isinstance(error, TunerError) else str(error)
            reply = {"kind": type(error).__name__, "error": message, "details": traceback.format_exc()[-4000:]}
        reply["seconds"] = time.perf_counter() - started
        sys.stdout.flush()
        pipe.send_bytes(json.dumps(reply).encode())
