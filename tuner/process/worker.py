"""Disposable children: what can hang or crash runs in one, and the parent enforces its deadline.

Children are forked from one fork server (TVM imported, no thread pool started), each in a process group of its own.
They die with the parent, and a child that is late is killed with its whole group. What a child started is killed with
it, by the parent or, when the parent itself was killed, by the reaper. Messages are JSON on a pipe; nothing that a
child sends is unpickled. What a child prints goes to a file without a name.

A *service* is a class named as `module:Class`; it is made in the child with keyword arguments and its
methods whose names begin with `op_` can be called.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import importlib
import json
import multiprocessing
import multiprocessing.context
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from tuner.errors import InfrastructureError, TunerError
from tuner.process import limits as process_limits
from tuner.process.limits import Limits
from tuner.process.reaper import ProcessReaper

_PRELOAD = ["kernels.preload"]
_PR_SET_PDEATHSIG = 1
_LEAVE_S = 2.0
_SEND_S, _RECEIVE_S = 30, 10
"""Once begun, a message must end within these seconds: a child may stop in the middle of one, or be busy with its
imports when the next is sent."""

_CONTEXT = multiprocessing.get_context("forkserver")
_REAPER = ProcessReaper(_CONTEXT)


class ChildTimeout(Exception):
    """The child missed its deadline and was killed."""


class ChildDied(Exception):
    """The child ended without a reply; the message says how (signal or exit code).

    `killed`: by SIGKILL, which the system or a person sent: no code ends in that way by mistake.
    """

    def __init__(self, message: str, killed: bool = False) -> None:
        super().__init__(message)
        self.killed = killed


class ChildError(Exception):
    """The operation raised in the child, which goes on living. `kind` is the exception's class name."""

    def __init__(self, kind: str, message: str, details: str = "") -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.details = details


class Child:
    """One child process that serves operations.

    `service` is `module:Class`, made with `settings`. `env` is set in the child before the service is imported (thread
    counts are read from it at import). `cpus` pins the child. `limits` bound what it may take from the machine.
    Raises InfrastructureError when no process can be started.
    """

    def __init__(
        self,
        service: str,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        cpus: Sequence[int] | None = None,
        limits: Limits | None = None,
    ) -> None:
        request = {
            "service": service,
            "settings": dict(settings or {}),
            "env": dict(env or {}),
            "cpus": cpus,
            "limits": dataclasses.asdict(limits or Limits()),
        }
        try:
            self._pipe, self._log, self._process = _start(json.dumps(request))
        except (EOFError, OSError):  # the fork server was killed: the next attempt starts another
            try:
                self._pipe, self._log, self._process = _start(json.dumps(request))
            except (EOFError, OSError) as error:
                raise InfrastructureError(
                    f"no worker process could be started: {error or type(error).__name__}",
                    "look for limits on processes, open files (ulimit -a) and memory",
                ) from error
        self._closed = False
        _REAPER.watch(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def submit(self, op: str, **arguments: Any) -> None:
        """Send an operation; its reply is fetched by `result`. One at a time. Raises ChildDied."""
        try:
            self._pipe.send_bytes(json.dumps([op, arguments]).encode())
        except OSError as error:
            raise self._death() from error

    def ready(self, timeout_s: float = 0.0) -> bool:
        """Whether `result` would return, or raise, at once."""
        return self._pipe.poll(timeout_s)

    @property
    def connection(self) -> Connection:
        """For `multiprocessing.connection.wait` over several children."""
        return self._pipe

    def result(self, timeout_s: float) -> Any:
        """The reply to the last `submit`. Raises ChildTimeout, ChildDied or ChildError."""
        if not self._pipe.poll(max(timeout_s, 0.0)):
            self.kill()
            raise ChildTimeout(f"no reply within {timeout_s:.3g} s")
        try:
            message = self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._death() from error
        try:
            reply = json.loads(message)
            return reply["value"] if "value" in reply else _raise(reply)
        except (ValueError, KeyError, TypeError) as error:  # something wrote over the pipe, or over the reply
            self.kill()
            raise ChildDied("its reply could not be read") from error

    def call(self, op: str, timeout_s: float, **arguments: Any) -> Any:
        """`submit`, then `result`. Raises ChildTimeout, ChildDied or ChildError."""
        self.submit(op, **arguments)
        return self.result(timeout_s)

    def alive(self) -> bool:
        return not self._closed and self._process.is_alive()

    def kill(self) -> None:
        """Kill the child with everything it started, and wait until it is gone."""
        if self._closed:
            return
        self._closed = True
        self._pipe.close()
        if self._process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        _REAPER.forget(self._process.pid or 0)
        self._process.join()
        self._process.close()
        self._log.close()

    def close(self) -> None:
        """Let an idle child end by itself, so that libraries clean up; kill it when it does not."""
        if not self._closed:
            self._pipe.close()
            self._process.join(timeout=_LEAVE_S)
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _death(self) -> ChildDied:
        """Why the child ended; it is killed if it did not."""
        self._process.join(timeout=_LEAVE_S)
        code = self._process.exitcode
        last = _last_output(self._log.fileno())
        self.kill()
        if code is None:
            return ChildDied(f"stopped in the middle of a reply and was killed{last}")
        if code < 0:
            return ChildDied(f"killed by {_signal_name(-code)}{last}", killed=-code == signal.SIGKILL)
        # 255 is also the code when the fork server was killed, and all its children with it.
        return ChildDied(f"exited with code {code}{last}", killed=code == 255)


def _start(request: str) -> tuple[Connection, Connection, multiprocessing.context.ForkServerProcess]:
    """A new child's pipe, its log, and the child."""
    _CONTEXT.set_forkserver_preload(_PRELOAD)
    pipe, far_end = _CONTEXT.Pipe()
    with socket.socket(fileno=os.dup(pipe.fileno())) as same:  # the pipe is a socket pair: its options stay with it
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_S, 0))
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _RECEIVE_S, 0))
    # Only connections can be handed to a child of the fork server; this one is a file.
    log = Connection(os.memfd_create("log"), readable=False)
    process = _CONTEXT.Process(target=_serve, args=(far_end, log, request), daemon=True)
    try:
        process.start()
    except BaseException:
        pipe.close()
        log.close()
        raise
    finally:
        far_end.close()
    return pipe, log, process


def _raise(reply: Mapping[str, Any]) -> Any:
    raise ChildError(reply["kind"], reply["error"], reply["details"])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals have no names
        return f"signal {number}"


def _last_output(log: int, limit: int = 300) -> str:
    """The end of what the child printed, as the end of a message."""
    text = os.pread(log, limit, max(0, os.fstat(log).st_size - limit)).decode(errors="replace").strip()
    return f"; it last said: {text}" if text else ""


def _serve(pipe: Connection, log: Connection, text: str) -> None:
    """The child's main loop; `text` is the request that `_start` was given."""
    request = json.loads(text)
    _set_up(request, pipe, log)
    module, _, name = request["service"].partition(":")
    service: Any = None
    while True:
        try:
            op, args = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        os.ftruncate(1, 0)  # what a child printed last is then about the operation it died of
        started = time.perf_counter()
        try:
            if service is None:
                service = getattr(importlib.import_module(module), name)(**request["settings"])
            reply: dict[str, Any] = {"value": getattr(service, f"op_{op}")(**args)}
        except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a typed reply
            message = error.message if isinstance(error, TunerError) else str(error)
            reply = {"kind": type(error).__name__, "error": message, "details": traceback.format_exc()[-4000:]}
        reply["seconds"] = time.perf_counter() - started
        with contextlib.suppress(OSError):  # the log may be full
            sys.stdout.flush()
        pipe.send_bytes(json.dumps(reply).encode())


def _set_up(request: Mapping[str, Any], pipe: Connection, log: Connection) -> None:
    """Make this process what the request wants: its own group, its environment, its output to the log, its limits."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    os.environ.update(request["env"])
    # A lock of another context (progress bars of frameworks make one) has a name until its process ends by itself: one
    # that is killed would leave it behind, with a warning.
    multiprocessing.set_start_method("fork", force=True)
    if request["cpus"] is not None:
        os.sched_setaffinity(0, request["cpus"])
    fcntl.fcntl(log.fileno(), fcntl.F_SETFL, os.O_APPEND)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    log.close()
    allowed = Limits(**request["limits"])
    if allowed != Limits():
        _close_all_but(pipe.fileno())
    process_limits.apply(allowed)


def _close_all_but(pipe: int) -> None:
    """Close the descriptors that a child of the fork server is given for children of its own: it will have none.

    As long as any child holds them the fork server takes the parent for alive, and whoever writes to them ends it.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != pipe:
            with contextlib.suppress(OSError):  # the descriptor of this listing
                os.close(int(name))
