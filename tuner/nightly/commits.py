"""What git says of this program's own commits. It may say nothing: no repository, or a shallow clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tuner.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 30.0

MAKING_CODE = ("kernels", "tuner/graph", "tuner/devices", "tuner/importers", "tuner/export", "tuner/commands")
"""Where what decides how a kept candidate becomes code is written."""


def git(*arguments: str, root: Path = ROOT) -> str | None:
    """What a git command prints, without the last newline; None where it fails."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")


def branch() -> str:
    """The branch that is checked out; empty where there is none."""
    name = git("rev-parse", "--abbrev-ref", "HEAD") or ""
    return "" if name == "HEAD" else name


def clean(commit: str) -> str:
    """A stored commit without the mark of changes that were not committed."""
    return commit.partition("+")[0]


def ancestors(commit: str) -> dict[str, int] | None:
    """All commits that a commit is made of, itself among them, numbered so that none comes after one that is made of
    it; None where git does not know it."""
    listed = git("rev-list", "--topo-order", "--reverse", clean(commit)) if clean(commit) else None
    return None if listed is None else {name: number for number, name in enumerate(listed.split())}


def touched(before: str, now: str) -> list[str] | None:
    """The files of MAKING_CODE that differ between two commits; None where git cannot tell."""
    if not clean(before) or not clean(now):
        return None
    listed = git("diff", "--name-only", clean(before), clean(now), "--", *MAKING_CODE)
    if listed is None:
        return None
    return [*listed.splitlines(), *(["changes that were not committed"] if "+" in before + now else [])]


def resolve(name: str) -> str:
    """The full id of a commit by any name of it. Raises UserError."""
    found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") if not name.startswith("-") else None
    if found is None:
        raise UserError(f"no commit {name!r} in {ROOT.name}", "give a commit, a tag or a branch: see git log")
    return found


def between(good: str, bad: str) -> list[str]:
    """The commits after `good` up to `bad`, oldest first, along the first parents. Raises UserError where `good` is not
    one of the commits that `bad` is made of."""
    if git("merge-base", "--is-ancestor", good, bad) is None:
        raise UserError(f"{good[:12]} is not an ancestor of {bad[:12]}", "give the older, good one first")
    listed = git("rev-list", "--first-parent", "--reverse", f"{good}..{bad}")
    return (listed or "").split()
