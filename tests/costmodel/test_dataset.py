import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.dataset import FAILURE, CandidateOutcome, Dataset, align, normalised_throughput


def throughput(outcomes: list[CandidateOutcome], groups: list[int] | None = None) -> list[float]:
    return [float(t) for t in normalised_throughput(outcomes, np.array(groups or [0] * len(outcomes)))]


def test_fastest_is_one_and_failure_zero() -> None:
    assert throughput([CandidateOutcome(seconds=2.0), CandidateOutcome(seconds=1.0), FAILURE]) == [0.5, 1.0, 0.0]


def test_groups_are_not_compared() -> None:
    assert throughput([CandidateOutcome(seconds=2.0), CandidateOutcome(seconds=100.0)], [0, 5]) == [1.0, 1.0]


def test_given_up_is_below_everything_faster() -> None:
    fast, just_faster, given_up, failed = throughput(
        [CandidateOutcome(seconds=1.0), CandidateOutcome(seconds=2.9), CandidateOutcome(slower_than=3.0), FAILURE]
    )
    assert fast > just_faster > given_up > failed


def test_given_up_never_beats_the_measured() -> None:
    assert throughput([CandidateOutcome(seconds=4.0), CandidateOutcome(slower_than=1.0)]) == [1.0, 1.0]


def test_group_without_a_time() -> None:
    assert throughput([CandidateOutcome(slower_than=1.0), CandidateOutcome(slower_than=2.0), FAILURE]) == [
        1.0,
        0.5,
        0.0,
    ]
    assert throughput([FAILURE, FAILURE]) == [0.0, 0.0]


@pytest.mark.parametrize(("seconds", "slower_than"), [(0.0, None), (-1.0, None), (None, float("inf")), (1.0, 1.0)])
def test_impossible_outcomes_are_rejected(seconds: float | None, slower_than: float | None) -> None:
    with pytest.raises(ValueError, match=r"positive|not both"):
        CandidateOutcome(seconds, slower_than)


def test_nan_is_no_time() -> None:
    with pytest.raises(ValueError, match="nan"):
        CandidateOutcome(seconds=float("nan"))


def test_arrays_in_order_and_only_the_last() -> None:
    data = Dataset()
    for i in range(5):
        data.add(i % 2, np.full(3, i, dtype=np.float64), CandidateOutcome(seconds=1.0 + i))
    features, outcomes, groups = data.arrays(last=2)
    assert features.dtype == np.float32
    assert features.tolist() == [[3.0] * 3, [4.0] * 3]
    assert [o.seconds for o in outcomes] == [4.0, 5.0]
    assert groups.tolist() == [1, 0]
    assert len(data) == len(data.arrays()[0]) == 5
    assert (data.count(0), data.count(1), data.count(2)) == (3, 2, 0)


def test_empty() -> None:
    features, outcomes, groups = Dataset().arrays()
    assert (len(features), outcomes, len(groups)) == (0, [], 0)


def test_vectors_of_another_length_are_rejected() -> None:
    data = Dataset()
    data.add(0, np.zeros(3, dtype=np.float32), FAILURE)
    with pytest.raises(ValueError, match="length is 3"):
        data.add(0, np.zeros(4, dtype=np.float32), FAILURE)


# --- features by name -------------------------------------------------------------------------------

named_values = st.dictionaries(st.text(max_size=3), st.floats(-1e6, 1e6, width=32), max_size=12)


@given(named_values, named_values, st.data())
def test_align_takes_values_by_name_and_defaults_for_the_rest(
    stored: dict[str, float], defaults: dict[str, float], data: st.DataObject
) -> None:
    wanted = tuple(data.draw(st.permutations(sorted({*stored, *defaults}))))
    aligned = align(list(stored.values()), tuple(stored), wanted, defaults)
    assert aligned is not None
    assert aligned.dtype == np.float32
    assert aligned.tolist() == [stored[name] if name in stored else defaults[name] for name in wanted]


@given(named_values)
def test_align_needs_a_default_for_what_is_missing(stored: dict[str, float]) -> None:
    assert align(list(stored.values()), tuple(stored), (*stored, "missing"), {"other": 1.0}) is None


def test_align_rejects_another_number_of_values_than_columns() -> None:
    assert align([1.0, 2.0], ("a",), ("a",), {}) is None
    assert align([], ("a",), ("a",), {"a": 1.0}) is None


def test_an_aligned_vector_is_a_copy() -> None:
    stored = np.ones(2, np.float32)
    aligned = align(stored, ("a", "b"), ("a", "b"), {})  # type: ignore[arg-type]
    assert aligned is not None
    aligned[0] = 5
    assert stored.tolist() == [1.0, 1.0]


def test_vectors_are_aligned_in_microseconds() -> None:
    columns = tuple(f"column {i}" for i in range(400))
    wanted, defaults = (*columns[:200], "new", *columns[200:]), {"new": 3.0}
    values = [float(i) for i in range(400)]
    align(values, columns, wanted, defaults)
    started = time.process_time()
    for _ in range(500):
        align(values, columns, wanted, defaults)
    assert time.process_time() - started < 0.25
