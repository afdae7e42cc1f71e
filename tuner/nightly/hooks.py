"""Commands that a night calls when it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_TIMEOUT_S = 120.0


def call(command: Sequence[str], *, night: str, summary: Path, regressions: int) -> list[str]:
    """Run a command with its arguments; the night is told in `TUNER_NIGHT`, `TUNER_SUMMARY` (a Markdown file) and
    `TUNER_REGRESSIONS`. Returns a sentence where it failed: that changes nothing of the night."""
    if not command:
        return []
    told = {"TUNER_NIGHT": night, "TUNER_SUMMARY": str(summary.absolute()), "TUNER_REGRESSIONS": str(regressions)}
    try:
        done = subprocess.run(
            list(command), env={**os.environ, **told}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, timeout=_TIMEOUT_S, text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        return [f"{command[0]} was not called: {error.strerror}"]
    except subprocess.TimeoutExpired:
        return [f"{command[0]} did not end within {_TIMEOUT_S:.0f} s"]
    words = " ".join(done.stderr.split())[:200]
    return [f"{command[0]} ended with {done.returncode}: {words}"] if done.returncode else []
