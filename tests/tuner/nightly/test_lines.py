"""Which nights a series is made of, and where it breaks."""

from __future__ import annotations

from tests.tuner.nightly.synthetic import night, result
from tuner.nightly.lines import comparable, comparisons, line, machine_differs, since_break
from tuner.nights import CellNight, Finding, Outcome

S = "rebuilt/reference"


def worse(change: float) -> Finding:
    return Finding(S, Outcome.WORSE, change, 0.0, change, 0.01, confirmed=True)


def test_a_series_begins_at_its_reference() -> None:
    told = line([result(1, {S: 0.01}), result(2, {S: 0.02})], S, "n000", relative=True)
    assert (list(told.values), told.last_good) == ([0.0, 0.01, 0.02], "n002")
    assert list(line([result(1, {S: 0.01})], S, "n000", relative=False).values) == [0.01]


def test_another_reference_is_another_series() -> None:
    past = [result(1, {S: 0.5}, reference="older"), result(2, {S: 0.01})]
    assert list(line(past, S, "n000", relative=True).values) == [0.0, 0.01]


def test_a_regression_stays_open() -> None:
    past = [result(1, {S: 0.0}), result(2, {S: 0.1}, worse(0.1)), result(3, {S: 0.1}, worse(0.1))]
    told = line(past, S, "n000", relative=True)
    assert list(told.values) == [0.0, 0.0]
    assert (told.last_good, told.open_since) == ("n001", "n002")
    told = line([*past, result(4, {S: 0.0})], S, "n000", relative=True)
    assert (told.open_since, told.last_good) == ("", "n004")


def noisy(numbers: range, often: int, by: float) -> list[CellNight]:
    return [result(n, {S: by * (n % 2)}, facts={"comparisons": often}) for n in numbers]


def test_a_noisy_series_is_compared_three_times_from_then_on_and_its_noise_is_known_anew() -> None:
    calm = noisy(range(1, 20), 1, 0.002)
    assert comparisons(calm, S, "n000") == 1
    past = noisy(range(1, 20), 1, 0.04)
    assert comparisons(past, S, "n000") == 3
    assert comparisons(past, S, "n007") == 1  # nothing is known of another reference
    past += noisy(range(20, 24), 3, 0.002)
    assert max(line(past, S, "n000", relative=True).changes) < 0.003
    assert comparisons(past, S, "n000") == 3
    past += noisy(range(24, 60), 3, 0.002)
    assert comparisons(past, S, "n000") == 3


def test_absolute_times_are_taken_as_logarithms_and_what_has_none_is_left_out() -> None:
    past = [result(1, {}, seconds={"reference": 1.0}), result(2, {}), result(3, {}, seconds={"reference": 0.0})]
    assert list(line(past, "reference", "n000", relative=False, log=True).values) == [0.0]


def test_a_history_ends_where_branches_part() -> None:
    nights = {n.id: n for n in (night(1, "a"), night(2, "b"), night(3, "c"), night(4, "b+changes"))}
    past = [result(number, {}) for number in (1, 2, 3, 4)]
    found = comparable(past, nights, {"a": 0, "b": 1}, "main")
    assert [r.night for r in found] == ["n001", "n002", "n004"]
    assert [r.night for r in comparable(past, nights, None, "main")] == ["n001", "n002", "n003", "n004"]
    assert comparable(past, nights, None, "other") == []


def test_a_night_that_was_filled_in_stands_where_its_commit_does() -> None:
    nights = {n.id: n for n in (night(1, "a"), night(2, "c"), night(3, "b"))}
    found = comparable([result(n, {}) for n in (1, 2, 3)], nights, {"a": 0, "b": 1, "c": 2}, "main")
    assert [r.night for r in found] == ["n001", "n003", "n002"]


def test_another_machine_is_a_break_of_absolute_times() -> None:
    nights = {n.id: n for n in (night(1), night(2, cpu="other"), night(3), night(4))}
    past = [result(number, {}) for number in (1, 2, 3)]
    assert [r.night for r in since_break(past, nights, nights["n004"])] == ["n003"]
    assert machine_differs(nights["n002"], nights["n003"]) == ["cpu other -> CPU"]
