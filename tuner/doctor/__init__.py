"""Whether this machine is set up for a run: checked part by part, each finding with what to do about it.

Nothing is changed: files that are written to test a folder are removed, the database is only read. What may
crash (TVM, PyCUDA) runs in a child.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tuner.config import RunConfig
from tuner.devices import resolve
from tuner.devices.finding import Finding, Findings, State
from tuner.doctor import database, machine, software
from tuner.errors import InfrastructureError, TunerError

__all__ = ["Finding", "State", "examine", "exit_code", "look"]


def examine(config: RunConfig) -> list[Finding]:
    """Every finding, in the order of the parts, for the target, folders and database that `config` names.

    Takes some ten seconds, most of it TVM's import. Raises nothing that a broken set-up may cause.
    """
    parts: tuple[tuple[str, Callable[[], Findings]], ...] = (
        ("python", software.python),
        ("versions", software.versions),
        ("packages", lambda: software.packages(config)),
        ("linker", software.linker),
        ("compiler", software.compiler),
        ("tvm", lambda: software.tvm(config)),
        *((kind.name, functools.partial(kind.findings, config)) for kind in resolve.all_kinds()),
        ("memory", machine.memory),
        ("limits", machine.limits),
        ("load", machine.load),
        ("results folder", lambda: machine.folder("results folder", Path(config.out), "choose another one with --out")),
        ("temp folder", lambda: machine.folder("temp folder", Path(tempfile.gettempdir()), "set the variable TMPDIR")),
        ("database", lambda: database.database(config.measure.database)),
    )
    return [finding for part, findings in parts for finding in look(part, findings)]


def look(part: str, findings: Callable[[], Findings]) -> list[Finding]:
    """The findings of one part; what it raises becomes the last of them."""
    collected: list[Finding] = []
    try:
        for finding in findings():
            collected.append(finding)  # one by one: those before a failure stay
    except TunerError as error:
        collected.append(Finding(part, State.BROKEN, error.message, error.hint or "see the message"))
    except (OSError, ImportError) as error:
        collected.append(Finding(part, State.BROKEN, f"{type(error).__name__}: {error}", "see the message"))
    return collected


def exit_code(findings: Sequence[Finding]) -> int:
    """0, or 3 when a part is broken."""
    return InfrastructureError.exit_code if any(finding.state is State.BROKEN for finding in findings) else 0
