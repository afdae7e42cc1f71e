import numpy as np
import pytest

from costmodel.metrics import pairwise_accuracy, rank_correlation, regret_at_k, top_k_recall

SECONDS = [4.0, 1.0, 3.0, 2.0]
PERFECT = [-4.0, -1.0, -3.0, -2.0]
REVERSED = [4.0, 1.0, 3.0, 2.0]


def test_perfect_and_reversed_orders() -> None:
    assert rank_correlation(PERFECT, SECONDS) == pytest.approx(1.0)
    assert rank_correlation(REVERSED, SECONDS) == pytest.approx(-1.0)
    assert pairwise_accuracy(PERFECT, SECONDS) == 1.0
    assert pairwise_accuracy(REVERSED, SECONDS) == 0.0


def test_knowing_nothing() -> None:
    assert rank_correlation([0.0] * 4, SECONDS) == 0.0
    assert pairwise_accuracy([0.0] * 4, SECONDS) == 0.5
    assert pairwise_accuracy([1.0, 2.0], [3.0, 3.0]) == 0.5


def test_rank_correlation_with_ties_by_hand() -> None:
    # ranks of the scores 0.5, 0.5, 2; of the speeds 1, 0, 2: covariance 1.5, variances 1.5 and 2
    assert rank_correlation([1.0, 1.0, 2.0], [2.0, 3.0, 1.0]) == pytest.approx(1.5 / np.sqrt(1.5 * 2.0))


def test_top_k_recall() -> None:
    assert top_k_recall(PERFECT, SECONDS, 2) == 1.0
    assert top_k_recall([9.0, 8.0, 1.0, 0.0], SECONDS, 2) == 0.5
    assert top_k_recall(REVERSED, SECONDS, 100) == 1.0


def test_regret() -> None:
    assert regret_at_k(PERFECT, SECONDS, 1) == 0.0
    assert regret_at_k(REVERSED, SECONDS, 1) == 3.0
    assert regret_at_k(REVERSED, SECONDS, 3) == 1.0


@pytest.mark.parametrize(("scores", "seconds"), [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])])
def test_vectors_only(scores: list[float], seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="vectors"):
        rank_correlation(scores, seconds)
