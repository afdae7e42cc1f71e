"""How the original of a raised function is compiled to be compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.baselines.original import FAST, POLLY, PRECISE, flags_of


@pytest.mark.parametrize("knows", [True, False])
def test_polly_is_asked_of_compilers_that_have_it(knows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clang = tmp_path / "clang"
    clang.write_text('#!/bin/sh\ncase "$*" in *-polly*) ' + ("exit 0" if knows else "exit 1") + ";; esac\n")
    clang.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    exact, fast = flags_of("f", False), flags_of("f", True)
    assert set(exact) == {PRECISE, *([POLLY] if knows else [])}
    assert set(fast) == {PRECISE, FAST, *([POLLY] if knows else [])}
    assert not any("-ffast-math" in flags for flags in (*exact.values(), fast[PRECISE]))
    assert all("-ffast-math" in flags for name, flags in fast.items() if name != PRECISE)
