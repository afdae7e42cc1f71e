"""Which kernel makes a model wrong, and what takes its place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from tuner.commands.fallback import MOST_REPLACED, Fallback

WINNERS = {f"kernel{number}": f"best {number}" for number in range(13)}


class Bed:
    """A model that is wrong with any of `wrong` parts, and with both parts of a pair of `together`."""

    def __init__(self, wrong: Collection[str], together: Collection[tuple[str, str]] = (), next_best: bool = False):
        self.wrong, self.together = set(wrong), list(together)
        self.notes: list[str] = []
        self.tried = 0
        self.refused: list[tuple[str, str]] = []
        self.next_best = next_best
        self.fallback = Fallback(
            dict(WINNERS), {key: "own" for key in WINNERS}, self.successor, str, self.notes.append, lambda: False
        )

    def successor(self, key: str, reason: str) -> Any:
        self.refused.append((key, self.fallback.winners[key]))
        return f"second {key}" if self.next_best and not self.fallback.winners[key].startswith("second") else None

    def fault_of(self, parts: Mapping[str, Any]) -> str:
        self.tried += 1
        parts_in = set(parts.values())
        bad = parts_in & self.wrong
        pairs = [pair for pair in self.together if set(pair) <= parts_in]
        return f"wrong by {sorted(bad)} {pairs}" if bad or pairs else ""


@pytest.mark.parametrize("number", [0, 5, 12])
def test_a_wrong_winner_is_found_by_halving_and_gives_way_to_the_next_best(number: int) -> None:
    bed = Bed([f"best {number}"], next_best=True)
    assert bed.fallback.mend(bed.fault_of)
    assert bed.fallback.parts == {**WINNERS, f"kernel{number}": f"second kernel{number}"}
    assert bed.refused == [(f"kernel{number}", f"best {number}")]
    assert bed.tried <= 3 + 4, "twice the whole, none, and the halves of thirteen"
    [note] = bed.notes
    assert note.startswith(f"kernel{number}: its winner makes the whole model wrong (wrong by")


def test_at_last_tvms_own_kernel_takes_the_place() -> None:
    bed = Bed(["best 3", "second kernel3"], next_best=True)
    assert bed.fallback.mend(bed.fault_of)
    assert bed.fallback.parts == {**WINNERS, "kernel3": "own"}
    assert [key for key, _ in bed.refused] == ["kernel3", "kernel3"]
    assert bed.notes[-1].endswith("TVM's own kernel takes its place")


def test_several_wrong_winners_are_all_found() -> None:
    bed = Bed(["best 1", "best 2", "best 11"])
    assert bed.fallback.mend(bed.fault_of)
    assert {key for key, part in bed.fallback.parts.items() if part == "own"} == {"kernel1", "kernel2", "kernel11"}


def test_of_two_that_are_wrong_together_one_goes() -> None:
    bed = Bed([], [("best 2", "best 9")])
    assert bed.fallback.mend(bed.fault_of)
    assert len([part for part in bed.fallback.parts.values() if part == "own"]) == 1


def test_what_is_wrong_without_any_winner_is_said_and_left() -> None:
    bed = Bed([], next_best=True)
    always: Callable[[Mapping[str, Any]], str] = lambda parts: "wrong"  # noqa: E731
    assert not bed.fallback.mend(always)
    assert bed.notes == ["the model is wrong with TVM's own kernels, too: wrong"]
    assert not bed.refused


def test_what_cannot_be_seen_again_changes_nothing() -> None:
    bed = Bed([])
    assert not bed.fallback.mend(bed.fault_of)
    assert bed.fallback.parts == WINNERS


def test_without_time_or_patience_no_kernel_is_tuned() -> None:
    bed = Bed(["best 1"])
    bed.fallback.stop = lambda: True
    assert bed.fallback.mend(bed.fault_of)
    assert set(bed.fallback.parts.values()) == {"own"}
    assert "no time is left" in bed.notes[-1]
    assert len(WINNERS) <= MOST_REPLACED
