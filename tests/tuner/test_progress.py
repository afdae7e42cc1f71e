"""What a person sees: one live line on a terminal, little when piped, and never a control character from a model."""

from __future__ import annotations

import io

import pytest

from tuner.config import parse_duration
from tuner.progress import PIPED_INTERVAL_S, Progress, clock_text, counted, duration, milliseconds, task_line


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def update(progress: Progress, name: str = "conv", trials: int = 3) -> None:
    progress.task_update(name, trials, 1.23e-3, 15.1e-3, {"run failed": 2, "invalid": 0}, 250)


def test_a_task_line_has_everything() -> None:
    line = task_line("conv", 64, 1.23e-3, 15.1e-3, {"wrong result": 1, "run failed": 2, "invalid": 0}, 250)
    assert line == "conv: best 1.23 ms (x12.3), 64 trials, failed 3 (2 run failed, 1 wrong result), ETA 04:10"
    assert task_line("conv", 0, None, None, {}, None) == "conv: no result yet, 0 trials"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234e-3, "1.23 ms"), (1.2e-6, "0.00120 ms"), (0.0999, "99.9 ms"), (0.09996, "100 ms"), (1.5, "1500 ms")],
)
def test_milliseconds_have_three_digits(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00"), (59.6, "01:00"), (250, "04:10"), (3661, "1:01:01"), (-3, "00:00")]
)
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_the_live_line_is_overwritten_and_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out, clock = io.StringIO(), ManualClock()
    progress = Progress(out, live=True, clock=clock)
    update(progress, "a-kernel-with-a-name-that-is-far-too-long-for-this")
    clock.now += 1
    update(progress, "b")
    progress.phase("Report")
    progress.close()
    drawn = out.getvalue().split("\r")
    assert all(len(part.rstrip("\n")) < 40 for part in drawn)
    assert drawn[1].endswith("...")
    assert len(drawn[2]) == len(drawn[1])  # what stood there is covered
    assert drawn[-1] == "[00:01] Report\n"


def test_the_live_line_is_not_drawn_all_the_time() -> None:
    out, clock = io.StringIO(), ManualClock()
    progress = Progress(out, live=True, clock=clock)
    for trials in range(1000):
        clock.now += 0.001
        update(progress, trials=trials)
    assert out.getvalue().count("\r") <= 11


def test_piped_only_phases_and_gathered_messages_are_written() -> None:
    out, clock = io.StringIO(), ManualClock()
    progress = Progress(out, clock=clock)  # a StringIO is no terminal
    progress.phase("Search")
    update(progress)
    progress.message("first")
    progress.message("second")
    assert out.getvalue() == "[00:00] Search\n        first\n"
    clock.now += PIPED_INTERVAL_S
    progress.message("third")
    assert out.getvalue().endswith("first\n        second\n        third\n")
    progress.message("last")
    progress.close()
    progress.close()
    assert out.getvalue().endswith("third\n        last\n")


def test_a_name_cannot_steer_the_terminal() -> None:
    out = io.StringIO()
    progress = Progress(out, live=True, clock=ManualClock())
    update(progress, "\x1b[2J\nconv")
    progress.phase("\x1b]0;title\x07")
    progress.message("a\rb")
    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "a?b" in out.getvalue()


def test_a_closed_terminal_does_not_end_the_run() -> None:
    out = io.StringIO()
    progress = Progress(out, live=True, clock=ManualClock())
    out.close()
    progress.phase("Search")
    update(progress)
    progress.close()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (4.2, "5s"), (60, "1m"), (150, "2m30s"), (3600, "1h"), (3601, "1h1m"), (86400 * 2, "48h")],
)
def test_a_duration_is_one_that_a_file_may_hold(seconds: float, said: str) -> None:
    assert duration(seconds) == said
    assert seconds == 0 or seconds <= parse_duration(said) < seconds + 60


def test_counts_have_the_right_noun() -> None:
    assert [counted(n, "night") for n in (0, 1, 2)] == ["0 nights", "1 night", "2 nights"]
