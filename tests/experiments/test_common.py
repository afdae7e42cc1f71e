"""A script that is run as a child hands over one result, or is reported with what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.common import ScriptFailed, run_script


def test_a_script_hands_its_result_over_whatever_else_it_prints(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from experiments.common import give_result\n"
        "print('something else')\n"
        "give_result({'arguments': sys.argv[1:], 'threads': os.environ['THREADS']})\n"
        "sys.exit(3)\n"
    )
    assert run_script(str(script), ["a", "b"], {"THREADS": "2"}) == {"arguments": ["a", "b"], "threads": "2"}


def test_a_script_without_a_result_has_failed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise ValueError('no such task')\n")
    with pytest.raises(ScriptFailed, match="no such task"):
        run_script(str(script), [])
