"""The comparison of searches: files of earlier versions are read, and at a checkpoint the best so far is shipped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from experiments.figures import search as figures
from experiments.one_task import A_DAY_S
from experiments.search import run
from experiments.search.curve import Curve
from experiments.search.results import report
from experiments.search.searchers import Limits, search
from kernels.space import Candidate
from kernels.workload import Workload
from tests.null_device import Null, seconds_of
from tuner.protocols import Task

RESULTS = Path(__file__).parents[2] / "results" / "amd-epyc"
TASK = Task(Workload("key", "name", "", (), 0, 0.0), "null")
POINTS = 6**3
"""Of the null device's space."""


def limits(tmp_path: Path, trials: int) -> Limits:
    return Limits(trials, A_DAY_S, tmp_path)


def test_at_each_checkpoint_the_best_so_far_is_shipped(tmp_path: Path) -> None:
    result = search("random", TASK, Null(tmp_path / "kernels"), limits(tmp_path, 64))
    assert result.trials == 64
    assert set(result.finals) == {"32 trials", "64 trials", "end"}
    shipped = {name: seconds_of(Candidate.from_text(kernel.what)) for name, kernel in result.finals.items()}
    best = {n: min(seconds for trial, _, seconds in result.curve if trial <= n) for n in (32, 64)}
    assert shipped["32 trials"] == pytest.approx(best[32], rel=1e-3)
    assert shipped["64 trials"] == shipped["end"] == pytest.approx(best[64], rel=1e-3)
    assert all(Path(kernel.path).exists() for kernel in result.finals.values())
    assert result.to_json()["finals"]["end"] == vars(result.finals["end"])


def test_a_search_that_has_tried_everything_ships_its_best_at_all_later_checkpoints(tmp_path: Path) -> None:
    result = search("random", TASK, Null(tmp_path / "kernels"), limits(tmp_path, POINTS + 100))
    assert result.trials == POINTS
    late = ("256 trials", "60 s", "180 s", "600 s", "end")
    assert {result.finals[name].what for name in late} == {result.finals["end"].what}


def test_after_so_many_seconds_what_was_the_best_by_then_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    curve: Curve[str] = Curve()
    trials = [(10.0, "slow", 2.0), (59.0, "failed", None), (61.0, "fast", 1.0), (200.0, "worse", 3.0)]
    for clock[0], choice, seconds in trials:
        curve.add(choice, seconds)
    curve.close()
    assert curve.shipped == {"60 s": "slow", "180 s": "fast", "end": "fast"}
    assert curve.points == [(1, 10.0, 2.0), (3, 61.0, 1.0)]


@pytest.mark.parametrize("name", ["search.json", "search-one-thread.json", "search-skinny-again.json"])
def test_files_with_earlier_keys_are_read(name: str, tmp_path: Path) -> None:
    earlier = json.loads((RESULTS / name).read_text())
    current = json.loads((RESULTS / name).read_text())
    for task in current["tasks"].values():
        task["searchers"] = task.pop("sides")
        task["metaschedule_limit_s"] = task.pop("rival_limit_s")
    (tmp_path / name).write_text(json.dumps(current))
    assert figures.search(tmp_path / name) == figures.search(RESULTS / name)
    assert list(report(current)) == list(report(earlier))


def test_rows_of_throughput_with_earlier_keys_are_read(tmp_path: Path) -> None:
    rows = json.loads((RESULTS / "throughput.json").read_text())
    for row in rows:
        row["searcher"] = {"ours": "guided"}.get(row["side"], row["side"])
        del row["side"]
    (tmp_path / "throughput.json").write_text(json.dumps(rows))
    assert figures.throughput(tmp_path / "throughput.json") == figures.throughput(RESULTS / "throughput.json")


def test_earlier_flags_and_names_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--sides", "guided", "metaschedule, our builder", "--rival-seconds", "600"]
    monkeypatch.setattr("sys.argv", ["run.py", *flags])
    earlier = run.arguments()
    current_flags = ["--searchers", "guided", "metaschedule, as a strategy", "--metaschedule-seconds", "600"]
    monkeypatch.setattr("sys.argv", ["run.py", *current_flags])
    assert vars(run.arguments()) == vars(earlier)
    monkeypatch.setattr("sys.argv", ["run.py", "--searchers", "nobody"])
    with pytest.raises(SystemExit):
        run.arguments()
