"""What users' modules and compilers raise, as one error that names the line of the module it came from."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from tuner.errors import ModelError

Made = TypeVar("Made")

_OURS = Path(__file__).resolve().parents[2]
_TORCH = Path(torch.__file__).resolve().parent
_PYTHON = Path(sysconfig.get_path("stdlib")).resolve()


def guarded(source: str, what: str, run: Callable[[], Made]) -> Made:
    """Run the user's code, or a compiler on it; whatever it raises becomes one ModelError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn about their own internals
            return run()
    except Exception as error:  # the model is the user's, and may raise anything
        raise ModelError(source, f"{what}: {gist(error)}{line_of(error)}") from error


def gist(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def line_of(error: BaseException) -> str:
    """` (net.py, line 7: x = self.norm(x))`: the last line of the user's code that an error came through, or ""."""
    for cause in _causes(error):
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if is_users(frame.filename):
                return f" ({placed(frame.filename, frame.lineno or 0)})"
    return ""


def placed(filename: str, line: int) -> str:
    """`net.py, line 7: x = self.norm(x)`."""
    code = linecache.getline(filename, line).strip()
    return f"{Path(filename).name}, line {line}{': ' if code else ''}{code[:120]}"


def is_users(filename: str) -> bool:
    """Whether a file is neither torch's nor Python's nor this program's."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    packaged = "site-packages" in path.parts
    return not (
        path.is_relative_to(_OURS) or path.is_relative_to(_TORCH) or (path.is_relative_to(_PYTHON) and not packaged)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: Any = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
