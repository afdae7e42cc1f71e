"""Other commits of this program, each in a worktree with an environment of its own.

A commit whose pinned packages are those of today shares today's packages: its environment is a virtual one that sees
them. Another one is installed from its own constraints, by `pip`.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.errors import InfrastructureError
from tuner.nightly.commits import ROOT, git
from tuner.nightly.steps import Tree

_INSTALL_S = 3600.0
_PINS = ("constraints.txt", "pyproject.toml")


class Unbuildable(Exception):
    """A commit that cannot be set up: the message says why. It is skipped, and that is no verdict on it."""


@contextlib.contextmanager
def worktree(commit: str, folder: Path, say: Callable[[str], None], python: str | None = None) -> Iterator[Tree]:
    """A commit in a worktree under `folder`, with its environment, or with the one that `python` is the interpreter of;
    the worktree is removed afterwards.

    Raises Unbuildable where it cannot be set up, InfrastructureError where git fails.
    """
    folder = folder.absolute()  # commands run in the worktree
    path = folder / commit[:12]
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if git("worktree", "add", "--detach", "--force", str(path), commit) is None:
        raise InfrastructureError(f"no worktree of {commit[:12]} can be made in {folder}", "look for a full disk")
    try:
        yield Tree(path, python or str(_environment(path, folder, say)))
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a worktree, also one that a killed process left."""
    if path.exists():
        git("worktree", "remove", "--force", str(path))
        shutil.rmtree(path, ignore_errors=True)
    git("worktree", "prune")


def same_packages(path: Path) -> bool:
    """Whether a commit pins the packages that this one pins."""
    mine, its = (_pins(folder) for folder in (ROOT, path))
    return mine == its


def _pins(folder: Path) -> dict[str, str]:
    """By package, the pinned version, of what both would install: a package that only one of them pins is no difference
    of those that decide how code is made."""
    try:
        lines = (folder / _PINS[0]).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    deciding = ("apache-tvm", "numpy", "torch", "onnx", "xgboost", "scipy")
    return {name.strip(): version.strip() for name, version in pairs if name.startswith(deciding)}


def _environment(path: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of the environment for a worktree. One is made for each set of pinned packages, and kept."""
    shared = same_packages(path)
    name = "shared" if shared else hashlib.sha256(str(sorted(_pins(path).items())).encode()).hexdigest()[:12]
    made = folder / "environments" / name
    python = made / "bin" / "python"
    if (made / ".ready").exists() and python.exists():
        return python
    shutil.rmtree(made, ignore_errors=True)
    _call([sys.executable, "-m", "venv", *(["--without-pip"] if shared else []), str(made)], path, "an environment")
    if shared:
        packages = next((made / "lib").glob("python*")) / "site-packages" / "shared.pth"
        packages.write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    else:
        say(f"installing the packages of {path.name}")
        command = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(path / _PINS[0]), f"{path}[all]"]
        _call(command, path, "its packages")
        _call([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "tuner-harness"], path, "its packages")
    (made / ".ready").touch()
    return python


def _call(command: list[str], path: Path, what: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=path, capture_output=True, text=True, timeout=_INSTALL_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unbuildable(f"{what} cannot be set up: {error}") from error
    if done.returncode:
        raise Unbuildable(f"{what} cannot be set up: {' '.join(done.stderr.split())[-300:]}")
