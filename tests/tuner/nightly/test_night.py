"""A night from beginning to end, with cells that take no time: budget, order, interruptions, damage."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Self

import pytest

from tests.tuner.nightly import synthetic
from tests.tuner.nightly.synthetic import Synthetic
from tests.tuner.test_files import mounted
from tuner.errors import ConfigError, DamagedStore, OutputError
from tuner.files import set_aside
from tuner.nightly import browse, night
from tuner.nightly.measuring import Job, Measurer
from tuner.nightly.night import Ended
from tuner.nightly.plan import NO_TIME
from tuner.nightly.verdicts import FIRST_NIGHT
from tuner.nights import Cause, CellNight, Outcome
from tuner.progress import Progress
from tuner.store.history import History

ROOT = Path(__file__).resolve().parents[3]


def run(path: str, measurer: Measurer) -> Ended:
    measurers: Mapping[str, Measurer] = {"model": measurer}
    return night.run(path, Progress(io.StringIO()), measurers)


def stored(folder: Path) -> list[CellNight]:
    with History(f"sqlite:///{folder / 'h.db'}") as history:
        return history.results()


def test_the_first_night_makes_the_reference_and_the_second_is_judged_against_it(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a")
    first = run(path, Synthetic())
    [begun] = first.results
    assert (first.exit_code, begun.outcome, begun.reference) == (0, Outcome.UNDECIDED, first.night)
    assert begun.reason == FIRST_NIGHT and f"a: undecided: {FIRST_NIGHT}" in first.lines
    second = run(path, Synthetic())
    assert second.exit_code == 0
    [result] = second.results
    assert (result.outcome, result.reason, result.reference) == (Outcome.SAME, "", first.night)
    assert [f.series for f in result.findings][:2] == ["rebuilt/reference", "searched/rebuilt"]
    assert result.findings[0].threshold == pytest.approx(0.03)
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "1 same" in summary and "| a | same |" in summary


def test_a_slower_build_is_confirmed_is_an_alert_and_stays_until_it_is_accepted(tmp_path: Path) -> None:
    path, slow = synthetic.config(tmp_path, "a"), Synthetic(code=0.1)
    run(path, Synthetic())
    for _ in range(2):
        ended = run(path, slow)
        assert ended.exit_code == 1
        [finding] = ended.results[0].regressions
        assert (finding.series, finding.confirmed) == ("rebuilt/reference", True)
        assert finding.change == pytest.approx(0.1)
    assert slow.asked.count("a again") == 2
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        assert len(browse.regressions(history)) == 2
        [said] = browse.accept(history, "a", "it is exact now")
        assert "it is exact now" in said
        assert len(browse.regressions(history)) == 1
    ended = run(path, Synthetic())  # against the accepted artifact
    assert ended.exit_code == 0
    assert ended.results[0].reference == stored(tmp_path)[2].night


def test_what_a_second_run_does_not_show_is_noise(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a")
    run(path, Synthetic())
    ended = run(path, Synthetic(wobble=0.1))
    assert ended.exit_code == 0
    assert (ended.results[0].findings[0].outcome, ended.results[0].findings[0].cause) == (Outcome.SAME, Cause.NOISE)


def test_a_search_counts_over_seeds(tmp_path: Path) -> None:
    path, worse = synthetic.config(tmp_path, "a"), Synthetic(search=0.3)
    run(path, Synthetic())
    run(path, Synthetic())
    ended = run(path, worse)
    assert ended.exit_code == 1
    assert worse.asked == ["a", "a seed 1", "a seed 2"]
    assert ended.results[0].regressions[0].series == "searched/rebuilt"


def test_the_budget_is_kept_and_what_was_left_out_comes_first(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "short a:9m b:9m c:9m", budget="3m")
    first = run(path, Synthetic())
    assert {r.cell.name for r in first.results if r.outcome is Outcome.MISSING} == {"a", "b", "c"}
    reasons = [r.reason for r in first.results if r.outcome is Outcome.MISSING]
    assert all(reason.startswith(NO_TIME) and "it takes about 10m20s" in reason for reason in reasons)
    [warning] = [line for line in first.lines if "alternate" in line]
    assert "All of them every night: budget: 32m21s" in warning
    assert warning in (tmp_path / "out" / "summary.md").read_text().replace("\\", "")
    path = synthetic.config(tmp_path, "short a:9m b:9m c:9m d e f", budget="1h")
    measurer = Synthetic()
    second = run(path, measurer)
    assert set(measurer.asked[:3]) == {"a", "b", "c"} and not any("alternate" in line for line in second.lines)


def test_what_waits_longest_comes_before_all(tmp_path: Path) -> None:
    for cells in ("z d:9m", "z c:9m d:9m", "z a:9m b:9m c:9m d:9m"):
        run(synthetic.config(tmp_path, cells, budget="3m"), Synthetic())
    measurer = Synthetic()
    run(synthetic.config(tmp_path, "z a:9m b:9m c:9m d:9m", budget="1h"), measurer)
    assert measurer.asked[:2] == ["d", "c"]


def test_a_budget_that_is_too_short_for_every_cell_is_refused_with_one_that_is_not(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a b:9m", budget="5s")
    with pytest.raises(ConfigError) as refused:
        run(path, Synthetic())
    assert "budget: 5s is too short for any cell: a takes about 1m21s, all 2 cells 11m41s" in refused.value.message
    assert "budget: 11m41s" in refused.value.hint and refused.value.message.startswith(path)
    assert stored(tmp_path) == []
    run(synthetic.config(tmp_path, "a b:9m", budget="1m21s"), Synthetic())
    assert {r.cell.name: r.outcome for r in stored(tmp_path)} == {"a": Outcome.UNDECIDED, "b": Outcome.MISSING}


def test_cells_come_in_another_order_each_night(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a b c d e f g h")
    orders = set()
    for _ in range(3):
        measurer = Synthetic()
        run(path, measurer)
        orders.add(tuple(measurer.asked))
    assert len(orders) > 1 and all(sorted(order) == list("abcdefgh") for order in orders)


def test_a_cell_that_fails_is_broken_and_the_others_go_on(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a b")

    def fail(job: Job) -> None:
        if job.cell.name == "a":
            raise OutputError("no room for it")

    run(path, Synthetic())
    ended = run(path, Synthetic(before=fail))
    assert {r.cell.name: r.outcome for r in ended.results} == {"a": Outcome.BROKEN, "b": Outcome.SAME}
    assert ended.exit_code == 1 and ended.lines[-1] == "exit code 1: a is broken"
    assert next(r for r in ended.results if r.cell.name == "a").findings[0].cause is None
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        assert browse.regressions(history)[1:] == [["a", ended.night, "broken: no room for it"]]
        said = browse.accept(history, "a", "it is meant")
        assert f"its last night {ended.night} is broken and cannot be accepted: no room for it" in said


def test_a_cell_that_never_worked_is_broken_and_no_night_like_any_other(tmp_path: Path) -> None:
    def fail(job: Job) -> None:
        raise OutputError("never")

    assert run(synthetic.config(tmp_path, "a"), Synthetic(before=fail)).exit_code == 1


def test_a_run_file_that_cannot_be_read_is_refused_before_the_night(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a")
    run(path, Synthetic())
    (tmp_path / "cell.yaml").write_text("model: {sauce: x}\n")
    with pytest.raises(ConfigError, match=r"night\.yaml: cell a: run: .*sauce"):
        run(path, Synthetic())
    assert len(stored(tmp_path)) == 1


def test_an_interrupted_night_says_how_it_goes_on(tmp_path: Path) -> None:
    def stop(job: Job) -> None:
        if job.cell.name == order[1]:
            raise KeyboardInterrupt

    order: list[str] = ["", "b"]
    path = synthetic.config(tmp_path, "a b")
    with pytest.raises(KeyboardInterrupt, match=r"[01] of 2 cells stored; the same command goes on with this night"):
        run(path, Synthetic(before=stop))
    assert {r.cell.name for r in run(path, Synthetic()).results} == {"a", "b"}


KILLED = """
import io, os, signal, sys
from tests.tuner.nightly.synthetic import Synthetic
from tests.tuner.test_files import mounted
from tuner.nightly import night
from tuner.progress import Progress

def die(job):
    if job.cell.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)

night.run(sys.argv[1], Progress(io.StringIO()), {"model": Synthetic(before=die)})
"""


def test_a_night_that_is_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a b c d")
    done = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = [r.cell.name for r in stored(tmp_path)]
    measurer = Synthetic()
    ended = run(path, measurer)
    assert sorted(r.cell.name for r in stored(tmp_path)) == list("abcd")
    assert sorted(before + measurer.asked) == list("abcd")
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        [one] = history.nights()
        assert one.id == ended.night and one.ended_at and "was interrupted" in " ".join(one.notes)


def test_two_nights_at_once_are_one_too_many(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a")

    def second(job: Job) -> None:
        with pytest.raises(OutputError, match="a night is going on"):
            run(path, Synthetic())

    assert run(path, Synthetic(before=second)).exit_code == 0


def test_two_nights_of_two_folders_on_one_history_are_one_too_many(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a")
    other = tmp_path / "other.yaml"
    other.write_text(Path(path).read_text().replace(f"out: {tmp_path / 'out'}", f"out: {tmp_path / 'elsewhere'}"))

    def second(job: Job) -> None:
        with pytest.raises(OutputError, match=r"h\.db: a night is going on in it already"):
            run(str(other), Synthetic())

    assert run(path, Synthetic(before=second)).exit_code == 0
    assert run(str(other), Synthetic()).exit_code == 0
    assert not list(tmp_path.glob(".h.db*"))


def test_a_clock_that_jumps_back_leaves_the_order_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = synthetic.config(tmp_path, "a")
    run(path, Synthetic())

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(1999, 1, 1, tzinfo=tz)

    monkeypatch.setattr(night, "datetime", Earlier)
    ended = run(path, Synthetic(code=0.1))
    assert any("clock was set back" in line for line in ended.lines)
    assert ended.exit_code == 1 and ended.night.startswith("1999")
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        assert [n.id for n in history.nights()][-1] == ended.night


def test_a_damaged_database_is_told_and_its_nights_are_kept(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a")
    for _ in range(3):
        run(path, Synthetic())
    file = tmp_path / "h.db"
    data = bytearray(file.read_bytes())
    where = data.rindex(b'"searched/rebuilt"')
    page = where // 4096 * 4096
    data[page : page + 8] = b"\xa5" * 8
    file.write_bytes(data)
    with pytest.raises(DamagedStore) as refused, History(f"sqlite:///{file}", reading=True) as history:
        history.results()
    assert "stays as it is" in refused.value.hint and not list(tmp_path.glob("h.db.damaged-*"))
    ended = run(path, Synthetic())
    [told] = [line for line in ended.lines if "set aside" in line]
    assert "0 records and 3 nights with " in told and "***" not in told
    assert ended.results[0].reference  # its history is there
    assert list(tmp_path.glob("h.db.damaged-*"))
    assert not any("set aside" in line for line in run(path, Synthetic()).lines)


def test_a_night_on_a_fresh_history_says_that_the_old_one_was_damaged(tmp_path: Path) -> None:
    """Whoever set it aside: another command may have, between two nights."""
    path = synthetic.config(tmp_path, "a")
    run(path, Synthetic())
    set_aside(tmp_path / "h.db", ("-wal", "-shm"))
    [told] = [line for line in run(path, Synthetic()).lines if "was damaged" in line]
    assert "set aside as h.db.damaged-1" in told
    assert "damaged" in (tmp_path / "out" / "summary.md").read_text()
    assert not any("was damaged" in line for line in run(path, Synthetic()).lines)


def test_commands_are_told_and_a_failing_one_changes_nothing(tmp_path: Path) -> None:
    script = tmp_path / "told.sh"
    script.write_text(f"env | grep ^TUNER_ > {tmp_path}/$1\nexit 3\n")
    path = synthetic.config(tmp_path, "a", on_end=f"[sh, {script}, end]", on_regression=f"[sh, {script}, regression]")
    assert run(path, Synthetic()).exit_code == 0
    assert "TUNER_REGRESSIONS=0" in (tmp_path / "end").read_text()
    assert not (tmp_path / "regression").exists()
    ended = run(path, Synthetic(code=0.2))
    assert ended.exit_code == 1 and any("sh ended with 3" in line for line in ended.lines)
    told = (tmp_path / "regression").read_text()
    assert "TUNER_REGRESSIONS=1" in told and f"TUNER_NIGHT={ended.night}" in told


def test_artifacts_that_nothing_needs_are_removed(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a")
    nights = [run(path, Synthetic()).night for _ in range(6)]
    kept = {folder.name for folder in (tmp_path / "out" / "artifacts").glob("*/*")}
    assert kept == {nights[0], *nights[-3:]}
    assert not (tmp_path / "out" / "work").exists()


def test_a_night_of_another_file_is_not_gone_on_with(tmp_path: Path) -> None:
    path = synthetic.config(tmp_path, "a b c d")
    subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, capture_output=True, timeout=60)
    other = synthetic.config(tmp_path, "a b c d")
    moved = tmp_path / "other.yaml"
    moved.write_text(Path(other).read_text())
    run(str(moved), Synthetic())
    with History(f"sqlite:///{tmp_path / 'h.db'}") as history:
        first, second = history.nights()
        assert not first.ended_at and second.ended_at


FULL = """
import io, sys
from pathlib import Path
from tests.tuner.nightly import synthetic
from tests.tuner.nightly.synthetic import Synthetic
from tests.tuner.test_files import mounted
from tuner.errors import TunerError
from tuner.nightly import night
from tuner.progress import Progress
from tuner.store.history import History

folder = Path(sys.argv[1])
ballast, asked = folder / "ballast", []

def fill(job):
    asked.append(job.cell.name)
    if len(asked) == 2:
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

path = synthetic.config(folder, "a b c")
try:
    night.run(path, Progress(io.StringIO()), {"model": Synthetic(before=fill)})
except TunerError as error:
    print(error.exit_code, error.message)
ballast.unlink()
night.run(path, Progress(io.StringIO()), {"model": Synthetic()})
with History(f"sqlite:///{folder / 'h.db'}") as history:
    [one] = history.nights()
    print(sorted(r.cell.name for r in history.results()), bool(one.ended_at), history.damaged)
"""


def test_a_full_disk_ends_the_night_with_3_and_loses_nothing(tmp_path: Path) -> None:
    wrap = mounted(tmp_path, "size=6m")
    done = subprocess.run(
        [*wrap, sys.executable, "-c", FULL, str(tmp_path / "disk")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    assert lines[0].startswith("3 ")
    assert lines[1] == "['a', 'b', 'c'] True 0"


def test_a_cell_that_hangs_is_broken_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    """The program that the cell's tree runs never ends."""
    from tuner.nightly.config import load
    from tuner.nightly.measuring import ModelMeasurer
    from tuner.nightly.steps import Tree

    (tmp_path / "tree" / "tuner").mkdir(parents=True)
    (tmp_path / "tree" / "tuner" / "__main__.py").write_text("import time\ntime.sleep(987)\n")
    config = load(synthetic.config(tmp_path, "a"))
    (tmp_path / "work").mkdir()
    tree = Tree(tmp_path / "tree", sys.executable)
    measured = ModelMeasurer().measure(Job(config.cells[0], config, None, tmp_path / "work", lambda: 1.0, tree))
    assert measured.outcome is Outcome.BROKEN and "no end within 1 s: killed" in measured.reason
