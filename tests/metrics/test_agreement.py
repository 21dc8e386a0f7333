"""How alike two models answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mlctl.metrics.agreement import class_changes, root_mean_square_apart, share_alike


def test_the_share_is_of_equal_decisions_whatever_the_probabilities() -> None:
    first = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    second = np.array([[0.6, 0.4], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    share, interval = share_alike(first, second, 0.95)
    reference = binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert share == 0.75
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


def test_predictions_lie_apart_in_their_own_unit() -> None:
    first = np.random.default_rng(1).normal(size=4000).astype(np.float32)
    second = first + np.random.default_rng(2).normal(scale=3, size=4000).astype(np.float32)
    apart, interval = root_mean_square_apart(first, second, 0.95)
    assert apart == pytest.approx(np.linalg.norm(second.astype(float) - first) / np.sqrt(4000))
    # The deviation of a normal sample's deviation is its own over the root of 2 N: 3 / sqrt(8000) is 0.034.
    assert interval.low < apart < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.0335, rel=0.2)


def test_the_class_that_lost_most_stands_first() -> None:
    targets = np.array([0] * 4 + [1] * 4 + [5] * 2)
    first = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0, 0], np.bool_)
    second = np.array([1, 1, 0, 0, 0, 0, 0, 1, 1, 0], np.bool_)
    found = class_changes(first, second, targets, 0.95)
    assert [(each.number, each.samples, each.first, each.second) for each in found] == [
        (1, 4, 1.0, 0.25), (0, 4, 0.75, 0.5), (5, 2, 0.0, 0.5),
    ]  # fmt: skip
    assert all(each.change.low <= each.second - each.first <= each.change.high for each in found)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_classes_add_up_to_the_whole(rows: list[tuple[int, bool, bool]]) -> None:
    targets = np.array([row[0] for row in rows])
    first, second = (np.array([row[place] for row in rows]) for place in (1, 2))
    found = class_changes(first, second, targets, 0.9)
    assert sum(each.samples for each in found) == len(rows)
    assert sum(each.first * each.samples for each in found) == pytest.approx(first.sum())
    assert sum(each.second * each.samples for each in found) == pytest.approx(second.sum())
