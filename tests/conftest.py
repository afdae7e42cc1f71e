"""What holds for every test: no network, one way for Hypothesis to draw, GPU tests only where a GPU is, and golden
files."""

from __future__ import annotations

import ctypes
import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test imports the packages that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# The same examples each time, and no deadline: the machine's load is not what a property is about.
settings.register_profile("project", derandomize=True, deadline=None, database=None)
settings.load_profile("project")


def gpus() -> int:
    """How many GPUs the CUDA driver offers to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


LONGEST = ("test_run.py", "test_kill.py", "test_hostile.py", "test_space.py", "test_strategies.py")
"""Files of tests that take longest, which start first: what starts last should not be what is waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting and not gpus():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


# --- golden files ---------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"
"""The folder of golden files: texts that the program makes, as they were when somebody last looked at them."""

_MOST_LINES = 80  # of a difference that a failed test shows


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` fails, with the difference, unless the file `tests/golden/name` holds `text`.

    `pytest --update-golden` writes the file instead. The text must be the same on every machine.
    """
    update, test = bool(request.config.getoption("--update-golden")), request.node.nodeid

    def check(name: str, text: str) -> None:
        if update:
            write_golden(GOLDEN / name, text)
        elif (failure := golden_difference(GOLDEN / name, text)) is not None:
            pytest.fail(f"{failure}\nIf that is meant: python -m pytest '{test}' --update-golden", pytrace=False)

    return check


def write_golden(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def golden_difference(path: Path, text: str) -> str | None:
    """What differs between a golden file and `text`, as a unified diff; None where nothing does."""
    if not path.exists():
        return f"{path.name}: there is no such golden file yet"
    stored = path.read_text(encoding="utf-8")
    if stored == text:
        return None
    lines = list(difflib.unified_diff(stored.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=2))
    left_out = [f"... {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    return "\n".join([f"{path.name} differs from its golden file:", *lines[:_MOST_LINES], *left_out])
