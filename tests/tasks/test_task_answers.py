"""What tasks answer, and how they judge answers: scikit-learn's figures, checked by formulas written out here."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch.nn import functional

from mlctl.data.description import Scaling
from mlctl.recipe.vocabulary import TASKS as VOCABULARY
from mlctl.tasks.image_classification import ImageClassification
from mlctl.tasks.regression import Regression
from mlctl.tasks.table import TASKS

Floats = npt.NDArray[np.float64]
LABELS = ("cat", "dog", "Ω owl")


def classified(seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Probabilities [200, 3] of a classifier that is often right, and the true classes."""
    dice = np.random.default_rng(seed)
    targets = dice.integers(0, 3, 200)
    logits = dice.normal(0, 1, (200, 3)) + 1.5 * np.eye(3)[targets]
    shares = np.exp(logits)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32), targets


def predicted(seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Predictions [150] of prices, and the true prices."""
    dice = np.random.default_rng(seed)
    targets = dice.normal(5000, 2000, 150)
    return (targets + dice.normal(30, 400, 150)).astype(np.float32), targets.astype(np.float32)


def by_hand_of_classes(probabilities: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> dict[str, float]:
    """Every figure of a classifier from its definition, class by class, in float64."""
    answers = probabilities.argmax(axis=1)
    precisions, recalls, f1s = [], [], []
    for each in range(probabilities.shape[1]):
        hits = float(((answers == each) & (targets == each)).sum())
        answered, there = float((answers == each).sum()), float((targets == each).sum())
        precisions.append(hits / answered if answered else 0.0)
        recalls.append(hits / there if there else 0.0)
        f1s.append(2 * hits / (answered + there) if answered + there else 0.0)
    order = np.argsort(-probabilities.astype(np.float64), axis=1, kind="stable")
    own = probabilities.astype(np.float64)[np.arange(len(targets)), targets]
    return {
        "accuracy": float((answers == targets).mean()),
        "top_2_accuracy": float((order[:, :2] == targets[:, None]).any(axis=1).mean()),
        "precision": float(np.mean(precisions)),
        "recall": float(np.mean(recalls)),
        "f1": float(np.mean(f1s)),
        "log_loss": float(-np.log(own).mean()),
    }


def by_sklearn_of_classes(probabilities: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> dict[str, float]:
    """The same from scikit-learn, called directly."""
    answers = probabilities.argmax(axis=1)
    # scikit-learn wants rows that add up to 1 more exactly than float32 does.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return {
        "accuracy": sklearn_metrics.accuracy_score(targets, answers),
        "top_2_accuracy": sklearn_metrics.top_k_accuracy_score(targets, probabilities, k=2, labels=[0, 1, 2]),
        "precision": sklearn_metrics.precision_score(targets, answers, average="macro"),
        "recall": sklearn_metrics.recall_score(targets, answers, average="macro"),
        "f1": sklearn_metrics.f1_score(targets, answers, average="macro"),
        "log_loss": sklearn_metrics.log_loss(targets, exact),
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_classifiers_figures_are_those_of_two_references(seed: int) -> None:
    probabilities, targets = classified(seed)
    names = ("accuracy", "top_2_accuracy", "precision", "recall", "f1", "log_loss")
    measured = ImageClassification().measure(names, probabilities, targets, 0.95)
    assert tuple(each.name for each in measured) == names
    found = {each.name: each.value for each in measured}
    # Shares of 200 samples are exact to float64; the logarithm is taken of float32 probabilities, good to 6e-8.
    assert found == pytest.approx(by_hand_of_classes(probabilities, targets), rel=1e-6)
    assert found == pytest.approx(by_sklearn_of_classes(probabilities, targets), rel=1e-6)
    assert found["log_loss"] == pytest.approx(
        float(functional.nll_loss(torch.from_numpy(probabilities).double().log(), torch.from_numpy(targets))), rel=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_regressions_figures_are_those_of_two_references(seed: int) -> None:
    predictions, targets = predicted(seed)
    names = ("mse", "rmse", "mae", "r2")
    measured = Regression().measure(names, predictions, targets, 0.9)
    found = {each.name: each.value for each in measured}
    errors = predictions.astype(np.float64) - targets.astype(np.float64)
    spread = float(((targets.astype(np.float64) - targets.astype(np.float64).mean()) ** 2).sum())
    by_hand = {
        "mse": float((errors**2).mean()),
        "rmse": float((errors**2).mean() ** 0.5),
        "mae": float(np.abs(errors).mean()),
        "r2": 1 - float((errors**2).sum()) / spread,
    }
    by_torch = {
        "mse": float(functional.mse_loss(torch.from_numpy(predictions).double(), torch.from_numpy(targets).double())),
        "mae": float(functional.l1_loss(torch.from_numpy(predictions).double(), torch.from_numpy(targets).double())),
    }
    # All of it is float64 arithmetic on the same float32 numbers, in another order.
    assert found == pytest.approx(by_hand, rel=1e-10)
    assert {name: found[name] for name in by_torch} == pytest.approx(by_torch, rel=1e-10)
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(targets, predictions), rel=1e-5)


@pytest.mark.parametrize("task", ["image-classification", "regression"])
def test_every_figure_lies_in_its_interval_and_more_confidence_widens_it(task: str) -> None:
    answers, targets = classified(9) if task == "image-classification" else predicted(9)
    names = tuple(VOCABULARY[task].default)
    narrow, wide = (TASKS[task].measure(names, answers, targets, level) for level in (0.8, 0.99))
    for inner, outer in zip(narrow, wide, strict=True):
        assert outer.low < inner.low <= inner.value <= inner.high < outer.high


def test_softmax_ends_a_classifier() -> None:
    logits = np.array([[1.0, -2.0, 0.5], [80.0, 79.0, -80.0]], np.float32)
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = shifted / shifted.sum(axis=1, keepdims=True)
    found = ImageClassification().finish(Scaling())(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)  # float32 keeps 6e-8 of numbers up to 1


@pytest.mark.parametrize(
    ("scaling", "mean", "deviation"),
    [(Scaling(), 0.0, 1.0), (Scaling(1.0, (5.0,), (2.0,)), 5.0, 2.0), (Scaling(1000.0, (5.0,), (2.0,)), 5000, 2000)],
)
def test_a_regression_ends_in_the_targets_own_unit(scaling: Scaling, mean: float, deviation: float) -> None:
    raw = torch.tensor([[0.0], [1.0], [-2.5]])
    found = Regression().finish(scaling)(raw)
    assert found.shape == (3,)
    assert found.tolist() == pytest.approx([mean, mean + deviation, mean - 2.5 * deviation])


def test_the_report_of_a_classifier_counts_true_classes_against_answers() -> None:
    probabilities, targets = classified(2)
    text = ImageClassification().report(probabilities, targets, LABELS)
    assert text is not None
    report: dict[str, Any] = json.loads(text)
    counts = np.zeros((3, 3), int)
    for true, answer in zip(targets, probabilities.argmax(axis=1), strict=True):
        counts[true, answer] += 1
    assert report == {"labels": list(LABELS), "confusion": counts.tolist()}
    assert np.array_equal(sklearn_metrics.confusion_matrix(targets, probabilities.argmax(axis=1)), counts)


def test_a_regression_has_nothing_to_report() -> None:
    assert Regression().report(*predicted(0), ()) is None


def test_a_class_that_nobody_answers_counts_as_zero_without_a_warning() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], np.float32)
    targets = np.array([0, 2, 1])
    found = {
        each.name: each.value
        for each in ImageClassification().measure(("precision", "f1"), probabilities, targets, 0.9)
    }
    assert found["precision"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


@pytest.mark.parametrize("task", TASKS)
def test_the_table_of_tasks_and_the_recipes_vocabulary_agree(task: str) -> None:
    assert TASKS[task].name == task
    assert set(TASKS) == set(VOCABULARY)
    assert VOCABULARY[task].main in VOCABULARY[task].metrics
