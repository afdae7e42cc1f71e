"""Finding a commit: whatever can be told of the commits between, what is returned holds the first bad one."""

from __future__ import annotations

import itertools

import pytest

from tuner.errors import UserError
from tuner.nightly.bisect import Evidence, narrow
from tuner.nightly.measuring import Measured
from tuner.nightly.verdicts import CODE


def test_the_first_bad_one_is_found_in_few_steps() -> None:
    commits = [f"c{n}" for n in range(100)]
    for first_bad in range(100):
        asked: list[str] = []

        def ask(commit: str) -> bool:
            asked.append(commit)  # noqa: B023 - called before the next round
            return int(commit[1:]) >= first_bad  # noqa: B023

        assert narrow(commits, ask) == [f"c{first_bad}"]
        assert len(asked) <= 8 and len(set(asked)) == len(asked)


def test_what_cannot_be_told_is_stepped_over_and_never_left_out() -> None:
    commits = list("abcdef")
    for first_bad, unknown in itertools.product(range(6), itertools.product([False, True], repeat=5)):
        blind = {c for c, dark in zip(commits, unknown, strict=False) if dark}
        asked: list[str] = []

        def ask(commit: str) -> bool | None:
            asked.append(commit)  # noqa: B023
            return None if commit in blind else commits.index(commit) >= first_bad  # noqa: B023

        found = narrow(commits, ask)
        assert commits[first_bad] in found
        assert len(set(asked)) == len(asked)
        assert set(found[:-1]) <= blind  # more than one only where the others could not be told


def test_structure_decides_where_it_differs() -> None:
    good = Measured(ratios={CODE: 0.0}, texts={"rebuilt.code_hash": "g"})
    bad = Measured(ratios={CODE: 0.1}, texts={"rebuilt.code_hash": "b"})
    evidence = Evidence.of(good, bad)
    assert evidence.series is None
    assert evidence.is_bad(Measured(texts={"rebuilt.code_hash": "b"})) is True
    assert evidence.is_bad(Measured(texts={"rebuilt.code_hash": "g"}, ratios={CODE: 0.1})) is False
    assert evidence.is_bad(Measured(texts={"rebuilt.code_hash": "x"}, ratios={CODE: 0.09})) is True  # then the times
    assert evidence.is_bad(Measured(texts={"rebuilt.code_hash": "x"}, ratios={CODE: 0.05})) is None
    assert evidence.is_bad(Measured()) is None


def test_times_decide_where_the_code_is_the_same() -> None:
    ends = [Measured(ratios={CODE: value}, texts={"rebuilt.code_hash": "s"}) for value in (0.0, 0.1)]
    evidence = Evidence.of(*ends)
    assert evidence.series == CODE
    assert [evidence.is_bad(Measured(ratios={CODE: v})) for v in (0.01, 0.05, 0.11)] == [False, None, True]


def test_ends_that_do_not_differ_are_refused() -> None:
    noisy = Measured(ratios={CODE: 0.03}, intervals={CODE: (-0.03, 0.06)})
    with pytest.raises(UserError, match="do not differ here"):
        Evidence.of(Measured(ratios={CODE: 0.0}), noisy)
    with pytest.raises(UserError, match="bad: it does not build"):
        Evidence.of(Measured(ratios={CODE: 0.0}), Measured(reason="it does not build"))
