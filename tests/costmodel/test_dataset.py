import numpy as np
import pytest

from costmodel.dataset import FAILURE, Dataset, Outcome, normalised_throughput


def throughput(outcomes: list[Outcome], groups: list[int] | None = None) -> list[float]:
    return [float(t) for t in normalised_throughput(outcomes, np.array(groups or [0] * len(outcomes)))]


def test_fastest_is_one_and_failure_zero() -> None:
    assert throughput([Outcome(seconds=2.0), Outcome(seconds=1.0), FAILURE]) == [0.5, 1.0, 0.0]


def test_groups_are_not_compared() -> None:
    assert throughput([Outcome(seconds=2.0), Outcome(seconds=100.0)], [0, 5]) == [1.0, 1.0]


def test_given_up_is_below_everything_faster() -> None:
    fast, just_faster, given_up, failed = throughput(
        [Outcome(seconds=1.0), Outcome(seconds=2.9), Outcome(slower_than=3.0), FAILURE]
    )
    assert fast > just_faster > given_up > failed


def test_given_up_never_beats_the_measured() -> None:
    assert throughput([Outcome(seconds=4.0), Outcome(slower_than=1.0)]) == [1.0, 1.0]


def test_group_without_a_time() -> None:
    assert throughput([Outcome(slower_than=1.0), Outcome(slower_than=2.0), FAILURE]) == [1.0, 0.5, 0.0]
    assert throughput([FAILURE, FAILURE]) == [0.0, 0.0]


@pytest.mark.parametrize(("seconds", "slower_than"), [(0.0, None), (-1.0, None), (None, float("inf")), (1.0, 1.0)])
def test_impossible_outcomes_are_refused(seconds: float | None, slower_than: float | None) -> None:
    with pytest.raises(ValueError, match=r"positive|not both"):
        Outcome(seconds, slower_than)


def test_nan_is_no_time() -> None:
    with pytest.raises(ValueError, match="nan"):
        Outcome(seconds=float("nan"))


def test_arrays_in_order_and_only_the_last() -> None:
    data = Dataset()
    for i in range(5):
        data.add(i % 2, np.full(3, i, dtype=np.float64), Outcome(seconds=1.0 + i))
    rows, outcomes, groups = data.arrays(last=2)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[3.0] * 3, [4.0] * 3]
    assert [o.seconds for o in outcomes] == [4.0, 5.0]
    assert groups.tolist() == [1, 0]
    assert len(data) == len(data.arrays()[0]) == 5
    assert (data.count(0), data.count(1), data.count(2)) == (3, 2, 0)


def test_empty() -> None:
    rows, outcomes, groups = Dataset().arrays()
    assert (len(rows), outcomes, len(groups)) == (0, [], 0)


def test_rows_of_another_length_are_refused() -> None:
    data = Dataset()
    data.add(0, np.zeros(3, dtype=np.float32), FAILURE)
    with pytest.raises(ValueError, match="length is 3"):
        data.add(0, np.zeros(4, dtype=np.float32), FAILURE)
