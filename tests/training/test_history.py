from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.training.history import EpochRecord, finite_figures, has_stalled, json_lines, last_improvement


def test_a_line_says_what_the_epoch_came_to() -> None:
    history = [EpochRecord(1, 10, 0.001, 2.5, (2.25, 0.5)), EpochRecord(2, 20, 0.0005, 1.5, (None, 0.75))]
    assert json_lines(history, ("loss", "accuracy")) == (
        '{"epoch":1,"learning_rate":0.001,"step":10,"train_loss":2.5,"validation":{"accuracy":0.5,"loss":2.25}}\n'
        '{"epoch":2,"learning_rate":0.0005,"step":20,"train_loss":1.5,"validation":{"accuracy":0.75,"loss":null}}\n'
    )


def test_what_is_not_a_finite_number_is_nothing() -> None:
    assert finite_figures((1.0, nan, inf, -inf, 0.0)) == (1.0, None, None, None, 0.0)


@pytest.mark.parametrize(
    ("figures", "lower", "higher"),
    [
        ([], None, None),
        ([None, None], None, None),
        ([3.0, 1.0, 2.0], 1, 0),
        ([1.0, 1.0, 1.0], 0, 0),
        ([None, 2.0, None, 2.0], 1, 1),
        ([0.5, 0.7, 0.7, 0.6], 0, 1),
    ],
)
def test_the_best_epoch_is_the_earliest_of_equals(
    figures: list[float | None], lower: int | None, higher: int | None
) -> None:
    assert last_improvement(figures, "lower") == lower
    assert last_improvement(figures, "higher") == higher


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_best_epoch_is_the_minimum_or_the_maximum(figures: list[float]) -> None:
    assert last_improvement(figures, "lower") == figures.index(min(figures))
    assert last_improvement(figures, "higher") == figures.index(max(figures))


def test_a_small_step_is_no_improvement() -> None:
    figures = [1.0, 0.95, 0.91, 0.89, 0.85]
    assert last_improvement(figures, "lower", min_delta=0.1) == 3
    assert last_improvement([-each for each in figures], "higher", min_delta=0.1) == 3


@pytest.mark.parametrize(
    ("figures", "patience", "stalled"),
    [
        ([], 1, False),
        ([1.0], 1, False),
        ([1.0, 2.0], 1, True),
        ([1.0, 2.0], 2, False),
        ([1.0, 2.0, 3.0], 2, True),
        ([2.0, 3.0, 1.0, 4.0], 2, False),
        ([None, None], 3, False),
        ([None, None, None], 3, True),
    ],
)
def test_patience_counts_the_epochs_since_the_last_improvement(
    figures: list[float | None], patience: int, stalled: bool
) -> None:
    assert has_stalled(figures, "lower", patience, 0.0) is stalled
