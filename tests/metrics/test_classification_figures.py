"""Figures of classifiers, against scikit-learn on the same answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score, top_k_accuracy_score

from mlctl.metrics.classification import (
    Floats,
    Integers,
    Probabilities,
    classification_figure,
    classification_resampler,
    confusion,
    is_rate,
    right_answers,
)

NAMES = ("accuracy", "top_1_accuracy", "top_2_accuracy", "precision", "recall", "f1", "log_loss")


def answers(samples: int, classes: int, *, seed: int) -> Probabilities:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), samples)


def truth(samples: int, classes: int, *, seed: int) -> Integers:
    return np.random.default_rng(seed + 1).integers(0, classes, samples)


def expected(name: str, probabilities: Probabilities, targets: Integers) -> float:
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    if name == "log_loss":
        return float(log_loss(targets, probabilities, labels=classes))
    if name.endswith("accuracy"):
        if name in ("accuracy", "top_1_accuracy"):
            return float(accuracy_score(targets, predicted))
        return float(top_k_accuracy_score(targets, probabilities, k=int(name[4]), labels=classes))
    function = {"precision": precision_score, "recall": recall_score, "f1": f1_score}[name]
    return float(function(targets, predicted, labels=classes, average="macro", zero_division=0))


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_scikit_learns(name: str) -> None:
    probabilities, targets = answers(200, 4, seed=1), truth(200, 4, seed=1)
    # Both sum 200 numbers in float64, in another order at most.
    assert classification_figure(name, probabilities, targets) == pytest.approx(
        expected(name, probabilities, targets), rel=1e-13
    )


def test_a_figure_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.3, 0.6], [0.6, 0.3, 0.1]])
    targets = np.array([0, 0, 2, 1])
    assert classification_figure("accuracy", probabilities, targets) == 0.5
    assert classification_figure("top_2_accuracy", probabilities, targets) == 1.0
    assert classification_figure("precision", probabilities, targets) == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert classification_figure("recall", probabilities, targets) == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert confusion(probabilities, targets).tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_class_that_never_occurs_counts_as_zero_and_is_in_the_confusion() -> None:
    probabilities, targets = np.array([[0.9, 0.1, 0.0]] * 3), np.zeros(3, np.int64)
    assert classification_figure("f1", probabilities, targets) == pytest.approx(1 / 3)
    assert confusion(probabilities, targets).shape == (3, 3)


def test_equal_probabilities_rank_by_class_in_accuracy_and_top_1_alike() -> None:
    probabilities = np.array([[0.5, 0.5, 0.0]] * 2)
    targets = np.array([0, 1])
    assert right_answers("accuracy", probabilities, targets).tolist() == [True, False]
    assert right_answers("top_1_accuracy", probabilities, targets).tolist() == [True, False]
    assert right_answers("top_2_accuracy", probabilities, targets).tolist() == [True, True]


def test_top_k_of_as_many_classes_as_there_are_is_always_right() -> None:
    assert classification_figure("top_5_accuracy", answers(20, 2, seed=3), truth(20, 2, seed=3)) == 1.0


def test_a_float32_probability_of_zero_costs_what_scikit_learn_says() -> None:
    probabilities = np.array([[0, 1], [1, 0]], np.float32)
    targets = np.array([0, 0])
    # scikit-learn works in float32 here: 2^-23 is the spacing of its answer near 8, relative to 1.
    assert classification_figure("log_loss", probabilities, targets) == pytest.approx(
        expected("log_loss", probabilities, targets), rel=1e-6
    )


def test_only_shares_of_right_answers_are_rates() -> None:
    assert [name for name in NAMES if is_rate(name)] == ["accuracy", "top_1_accuracy", "top_2_accuracy"]
    assert not is_rate("top_0_accuracy")


@pytest.mark.parametrize("name", ["top_0_accuracy", "top_accuracy", "rmse", ""])
def test_an_unknown_figure_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a figure"):
        classification_figure(name, answers(3, 2, seed=0), truth(3, 2, seed=0))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), samples=st.integers(1, 40), classes=st.integers(3, 6))
def test_resampled_figures_are_scikit_learns_on_the_resampled_answers(
    name: str, seed: int, samples: int, classes: int
) -> None:
    probabilities, targets = answers(samples, classes, seed=seed), truth(samples, classes, seed=seed)
    indices = np.random.default_rng(seed + 2).integers(0, samples, (5, samples))
    found: Floats = classification_resampler(name, probabilities, targets)(indices)
    wanted = [expected(name, probabilities[row], targets[row]) for row in indices]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)  # float64 sums of up to 40 numbers
