"""What `tuner history` prints and takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.nightly import synthetic
from tests.tuner.nightly.synthetic import Synthetic, night
from tests.tuner.nightly.test_night import ROOT, run
from tests.tuner.test_files import mounted
from tuner import cli
from tuner.nightly import browse
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.verdicts import FIRST_NIGHT
from tuner.nights import CellKey, CellKind, CellNight, Outcome
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
    assert code == 0 and out.count("night.yaml") == 0 and "1 undecided" in out and "1 same" in out and "1 worse" in out
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
        (("export", "."), "is a folder"),
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
    assert "6 added" in out
    with History(other) as copy:
        assert len(copy.nights()) == 3
    file.write_text(file.read_text()[:-30])
    _, out, _ = tuner(folder, capsys, "import", str(file), "--database", other)
    assert "0 added" in out and "1 line cannot be understood and was left out" in out
    file.write_text("{}\n")
    code, _, err = tuner(folder, capsys, "import", str(file), "--database", other)
    assert code == 2 and "tuner-history/1" in err


def test_an_export_overwrites_nothing_but_an_export(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The database above all."""
    mine = folder / "mine.txt"
    mine.write_text("a letter\n")
    [database] = folder.glob("*.db")
    before = database.read_bytes()
    for file in (mine, database):
        code, _, said = tuner(folder, capsys, "export", str(file))
        assert code == 2 and "no exported history" in said
    assert (mine.read_text(), database.read_bytes()) == ("a letter\n", before)
    for _ in range(2):
        assert tuner(folder, capsys, "export", str(folder / "nights.jsonl"))[0] == 0


@pytest.mark.parametrize("action", ["list", "show a", "regressions", "accept a --why b", "export all.jsonl"])
def test_looking_into_a_history_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str) -> None:
    synthetic.config(tmp_path, "a")
    code, _, err = tuner(tmp_path, capsys, *action.split())
    assert code == 2 and "no night was stored yet" in err
    assert not (tmp_path / "h.db").exists()


def test_a_file_of_nights_that_is_not_there_is_no_other_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = tuner(tmp_path, capsys)
    assert code == 2 and "night.yaml: no such file" in err
    with_url = ("--database", f"sqlite:///{tmp_path / 'h.db'}")
    code, _, err = tuner(tmp_path, capsys, *with_url)
    assert code == 2 and "night.yaml: no such file" in err


def test_what_was_accepted_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuner(folder, capsys, "accept", "--why", "it is meant", "conv")[0] == 0
    code, _, err = tuner(folder, capsys, "accept", "conv", "--why", "again")
    assert code == 2 and "was accepted already" in err and "it is meant" in err
    _, out, _ = tuner(folder, capsys, "regressions")
    assert "no regression stands, and no cell is broken" in out
    run(str(folder / "night.yaml"), Synthetic())
    code, out, _ = tuner(folder, capsys, "accept", "conv", "--why", "why not")
    assert code == 0 and "was no regression, but same" in out


def test_a_recorded_space_shows_what_it_found(tmp_path: Path) -> None:
    key = CellKey("pnpoly", CellKind.SPACE, "space.json.gz", budget="20 evaluations")
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        history.begin(night(1))
        history.add(CellNight("n001", key, Outcome.UNDECIDED, FIRST_NIGHT, ratios={SPACE: 0.2}))
        _, rows = browse.shown(history, "pnpoly")
    assert rows[0][3:5] == ["searched", "change"] and rows[1][3] == "22.1% over the optimum"
    assert rows[1][-1] == FIRST_NIGHT


def test_a_history_that_cannot_be_written_is_read(folder: Path, tmp_path: Path) -> None:
    """With and without what a writer left beside it; nothing is made."""
    wrap = mounted(tmp_path, "size=9m", f'cp "{folder / "h.db"}" "$0/h.db" && mount -o remount,ro "$0"')
    database = f"sqlite:///{tmp_path / 'disk' / 'h.db'}"
    script = (
        "import sys\nfrom tuner import cli\nfor a in sys.argv[2:]:\n  print(cli.main(['history', *a.split(),"
        " '--database', sys.argv[1]]))"
    )
    done = subprocess.run(
        [*wrap, sys.executable, "-c", script, database, "list", "show conv", "regressions", f"export {folder}/x.jsonl"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert [line for line in done.stdout.splitlines() if len(line) == 1] == ["0"] * 4, done.stderr
    assert len((folder / "x.jsonl").read_text().splitlines()) == 7


def test_looking_into_a_history_leaves_its_folder_as_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file())
    for action in ("list", "show conv", "regressions"):
        assert tuner(folder, capsys, *action.split())[0] == 0
    assert sorted((path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file()) == before


@pytest.mark.parametrize("url", ["nonsense", "nodb:///x", "sqlite:/x:y:z@"])
def test_a_wrong_url_is_a_wrong_request_everywhere(folder: Path, capsys: pytest.CaptureFixture[str], url: str) -> None:
    (folder / "wrong.yaml").write_text(f'database: "{url}"\ncells: [{{name: a, run: {folder}/cell.yaml}}]\n')
    for arguments in (
        ("history", "--database", url), ("site", str(folder / "s"), "--database", url),
        ("history", "--night", str(folder / "wrong.yaml")), ("nightly", str(folder / "wrong.yaml")),
        ("import", str(folder / "cell.yaml"), "--database", url),
    ):  # fmt: skip
        assert cli.main(list(arguments)) == 2, arguments
        assert "URL" in capsys.readouterr().err or arguments[0] == "import"


def test_a_damaged_history_stays_where_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "h.db"
    file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * (file.stat().st_size - 4096))
    damaged = file.read_bytes()
    for action in ("list", "show conv", "regressions", "accept conv --why x", f"export {folder}/all.jsonl"):
        code, _, err = tuner(folder, capsys, *action.split())
        assert code == 3 and "the next run or night sets it aside" in err and "***" not in err, action
    assert cli.main(["site", str(folder / "s"), "--night", str(folder / "night.yaml")]) == 3
    assert file.read_bytes() == damaged and not list(folder.glob("*damaged*")) + list(folder.glob(".*"))
