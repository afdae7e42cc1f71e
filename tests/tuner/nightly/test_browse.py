"""What `tuner history` prints and takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.nightly import synthetic
from tests.tuner.nightly.synthetic import Synthetic
from tests.tuner.nightly.test_night import run
from tuner import cli
from tuner.store.history import History


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three nights of one cell; in the last it is slower."""
    path = synthetic.config(tmp_path, "conv")
    for code in (0.0, 0.0, 0.1):
        run(path, Synthetic(code=code))
    return tmp_path


def tuner(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["history", *arguments, "--night", str(folder / "night.yaml")])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_history_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = tuner(folder, capsys)
    assert code == 0 and out.count("night.yaml") == 0 and out.count("1 same") == 2 and "1 worse" in out
    _, out, _ = tuner(folder, capsys, "show", "conv")
    assert "threshold" in out and "+10.5%" in out.replace("+11%", "+10.5%") and "second run" in out
    _, out, _ = tuner(folder, capsys, "regressions")
    assert "conv" in out and "rebuilt/reference" in out
    code, out, _ = tuner(folder, capsys, "accept", "conv", "--why", "needed for correctness")
    assert code == 0 and "needed for correctness" in out
    _, out, _ = tuner(folder, capsys, "show", "conv")
    assert "accepted: needed for correctness" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show",), "history show CELL"),
        (("show", "cnov"), "did you mean 'conv'"),
        (("accept", "conv"), "expected a reason"),
        (("bisect", "conv", "HEAD"), "CELL GOOD BAD"),
        (("backfill", "conv", "--nothing"), "nothing"),
        (("backfill", "conv", "no-such-commit"), "no commit"),
        (("backfill", "other", "HEAD"), "no cell"),
        (("backfill", "conv"), "CELL|all COMMIT|A..B"),
        (("backfill", "conv", "HEAD..HEAD~1"), "not an ancestor"),
        (("import", "nowhere.jsonl"), "No such file"),
        (("prune",), "invalid choice"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, _, err = tuner(folder, capsys, *arguments)
    assert code == 2 and words in err


def test_export_and_import(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "all.jsonl"
    assert tuner(folder, capsys, "export", str(file))[0] == 0
    other = f"sqlite:///{folder / 'other.db'}"
    _, out, _ = tuner(folder, capsys, "import", str(file), "--database", other)
    assert "6 nights, results and acceptances were added" in out
    with History(other) as copy:
        assert len(copy.nights()) == 3
    file.write_text(file.read_text()[:-30])
    _, out, _ = tuner(folder, capsys, "import", str(file), "--database", other)
    assert "0 nights" in out and "1 lines cannot be understood" in out
    file.write_text("{}\n")
    code, _, err = tuner(folder, capsys, "import", str(file), "--database", other)
    assert code == 2 and "tuner-history/1" in err


@pytest.mark.parametrize("action", ["list", "show a", "regressions", "accept a --why b", "export all.jsonl"])
def test_looking_into_a_history_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str) -> None:
    synthetic.config(tmp_path, "a")
    code, _, err = tuner(tmp_path, capsys, *action.split())
    assert code == 2 and "no night was stored yet" in err
    assert not (tmp_path / "h.db").exists()


def test_a_file_of_nights_that_is_not_there_is_no_other_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = tuner(tmp_path, capsys)
    assert code == 2 and "night.yaml: no such file" in err
