"""What a person at the terminal sees while a run goes on. Goes to stderr; results go to stdout.

On a terminal: one live line that is overwritten, and a lasting line for each phase and message. Piped:
phase lines, and messages gathered so that they are printed at most every 30 s.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from tuner.caveats import NONE, Caveat

PIPED_INTERVAL_S = 30.0
LIVE_INTERVAL_S = 0.1  # a terminal that is redrawn more often only flickers, and costs measuring time


class Progress:
    """Reports to `stream`. `live` says whether it is a terminal; None: ask the stream. `caveat` says what the times of
    tasks are."""

    def __init__(
        self, stream: TextIO | None = None, live: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.caveat = NONE
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty() if live is None else live
        self._clock = clock
        self._started = clock()
        self._drawn_at = -1e9
        self._messages_at = -1e9
        self._drawn = 0
        self._waiting: list[str] = []

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def phase(self, text: str) -> None:
        """A new stage of the run: one lasting line, with the time since the start."""
        self._flush()
        self._line(f"[{clock_text(self.elapsed_s)}] {printable(text)}")

    def message(self, text: str) -> None:
        """A sentence the person should read."""
        self._waiting.append(f"        {printable(text)}")
        if self._live or self._clock() - self._messages_at >= PIPED_INTERVAL_S:
            self._flush()

    def task_update(
        self,
        task_name: str,
        trials_done: int,
        best_s: float | None,
        untuned_s: float | None,
        failed: Mapping[str, int],
        eta_s: float | None,
    ) -> None:
        """Where one task stands. Seconds; None where there is no number yet. Silent when piped."""
        now = self._clock()
        if not self._live or now - self._drawn_at < LIVE_INTERVAL_S:
            return
        self._drawn_at = now
        self._draw(task_line(task_name, trials_done, best_s, untuned_s, failed, eta_s, self.caveat))

    def close(self) -> None:
        """Print what waits, and leave the cursor on a fresh line. May be called twice."""
        self._flush()
        self._erase()

    def _flush(self) -> None:
        if self._waiting:
            self._messages_at = self._clock()
        for text in self._waiting:
            self._line(text)
        self._waiting.clear()

    def _line(self, text: str) -> None:
        self._erase()
        self._write(f"{text}\n")

    def _draw(self, text: str) -> None:
        width = max(shutil.get_terminal_size().columns - 1, 20)
        text = text if len(text) <= width else text[: width - 3] + "..."
        self._write("\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def _erase(self) -> None:
        if self._drawn:
            self._write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed terminal must not end the run
            self._stream.write(text)
            self._stream.flush()


def task_line(
    task_name: str,
    trials_done: int,
    best_s: float | None,
    untuned_s: float | None,
    failed: Mapping[str, int],
    eta_s: float | None,
    caveat: Caveat = NONE,
) -> str:
    """`conv2d_3: best 1.23 ms (x12.3), 64 trials, failed 3 (2 run failed, 1 wrong result), ETA 04:10`."""
    best = "no result yet" if best_s is None else f"best {caveat.beside(milliseconds(best_s))}"
    if best_s and untuned_s:
        best += f" (x{untuned_s / best_s:.3g})"
    phrases = [best, f"{trials_done} trials"]
    counts = {kind: count for kind, count in failed.items() if count}
    if counts:
        detail = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))
        phrases.append(f"failed {sum(counts.values())} ({detail})")
    if eta_s is not None:
        phrases.append(f"ETA {clock_text(eta_s)}")
    return printable(f"{task_name}: {', '.join(phrases)}")


def milliseconds(seconds: float) -> str:
    """Milliseconds with three significant digits, e.g. `1.23 ms`."""
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 99.95 else f"{value:#.3g} ms"


def counted(count: int, noun: str) -> str:
    """A count with its noun, e.g. `1 night` or `2 nights`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Seconds as a run file or the file of a night may say them, e.g. `45s`, `2m30s`, `1h5m`; never less than it is."""
    whole = math.ceil(seconds)
    if whole >= 3600:
        whole = 60 * math.ceil(whole / 60)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def clock_text(seconds: float) -> str:
    """`mm:ss`, or `h:mm:ss` from an hour on."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


def printable(text: str) -> str:
    """One line that cannot steer the terminal, whatever a model calls its layers."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
