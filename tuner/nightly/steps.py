"""A step of a cell: a command of this program in a process of its own, which ends by itself or is ended.

What an earlier commit of this program is to do is done by that commit's own command line, in its own folder and
environment: `run` searches, `export` builds kept candidates again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import InfrastructureError

_TAIL = 400  # characters of a step's last lines that a reason repeats
_BEGIN = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.getppid() == int(sys.argv[1]) or os._exit(9);"
    "os.execv(sys.executable, [sys.executable, '-m', *sys.argv[2:]])"
)
"""How a step begins: it is to be killed (9) where this process dies (PR_SET_PDEATHSIG is 1), so that nothing goes on
that would disturb the next night; its own workers die with it. That outlives the exec. The first argument is this
process: where it died before that was said, the step ends at once."""

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tree:
    """A copy of this program: the folder it runs in, and the interpreter whose environment it has.

    `models`: a folder whose modules are found after its own, with models that an earlier commit does not have.
    """

    folder: Path
    python: str
    models: Path | None = None

    @classmethod
    def here(cls) -> Tree:
        """This very program, in the folder that this process runs in."""
        return cls(Path.cwd(), sys.executable)

    @property
    def mine(self) -> bool:
        return self.python == sys.executable and self.folder == Path.cwd()


@dataclass(frozen=True)
class Step:
    """How a step ended. `failed`: why, in words; empty where it did what it was to do."""

    seconds: float
    failed: str
    code: int | None = None


def run(tree: Tree, arguments: Sequence[str], log: Path, limit_s: float) -> Step:
    """`python -m` with these arguments in a tree; what it prints goes to `log`.

    After `limit_s` seconds it is killed with all that it started. Raises InfrastructureError where no process can be
    started.
    """
    environment = dict(os.environ)
    source = _ROOT if tree.mine else tree.folder
    # in another tree, this program's own copy must not be found
    others = [os.environ.get("PYTHONPATH", "")] if tree.mine else [str(tree.models)] if tree.models else []
    environment["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, others)])
    began = time.monotonic()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [tree.python, "-c", _BEGIN, str(os.getpid()), *arguments], cwd=tree.folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise InfrastructureError(
            f"no step can be started: {error}", "look for a full disk or missing memory"
        ) from error
    try:
        code = process.wait(max(limit_s, 0.0))
    except subprocess.TimeoutExpired:
        _kill(process)
        return Step(time.monotonic() - began, f"no end within {limit_s:.0f} s: killed")
    except BaseException:
        _kill(process)
        raise
    seconds = time.monotonic() - began
    if code == 0:
        return Step(seconds, "", 0)
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    words = _last_words(log).replace(f"{tree.folder.absolute()}{os.sep}", "")  # where a tree lies is no news
    return Step(seconds, f"{how}: {words}", code)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The whole session of a step; its own workers die with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_words(log: Path) -> str:
    """What a step said of its failure: from its line `error: ...` on, else the end of what it printed."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "it left no log"
    marked = max(text.rfind("error: "), text.rfind("Error: "))
    start = text.rfind("\n", 0, marked) + 1 if marked >= 0 else max(len(text) - _TAIL, 0)
    return " ".join(text[start : start + _TAIL].split()) or "it said nothing"
