"""A private PostgreSQL server for tests: in a temporary folder, on a socket only, gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USERS = ("postgres", "nobody")  # a server refuses to run as root


def missing() -> str:
    """Why there can be no server here; empty when there can."""
    if importlib.util.find_spec("psycopg") is None:
        return "the package psycopg is not installed (extra `postgres`)"
    for program in ("postgres", "initdb"):
        if shutil.which(program) is None:
            return f"no PostgreSQL server here: {program} is not on the PATH"
    return ""


@contextmanager
def server() -> Iterator[str]:
    """The URL of a fresh server's database. Call only where `missing()` is empty."""
    # not pytest's folder: a socket's path has at most 107 bytes, and another user must be able to enter
    folder = Path(tempfile.mkdtemp(prefix="tuner-pg-"))
    user = _user(folder)
    data = folder / "data"
    programs = Path(shutil.which("postgres") or "").resolve().parent  # initdb looks for postgres beside itself
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "tuner", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, capture_output=True, user=user, cwd=folder, timeout=120,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )  # fmt: skip
    log = folder / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            stdout=out, stderr=out, stdin=subprocess.DEVNULL, user=user, cwd=folder,
        )  # fmt: skip
    try:
        url = f"postgresql+psycopg://tuner@/postgres?host={folder}"
        _wait(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder)


def _user(folder: Path) -> str | None:
    if os.getuid() != 0:
        return None
    for name in _USERS:
        try:
            shutil.chown(folder, name)
        except LookupError:
            continue
        return name
    raise RuntimeError(f"root cannot run a PostgreSQL server, and there is no user {' or '.join(_USERS)}")


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import time

    import psycopg

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(url.replace("+psycopg", "")).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
