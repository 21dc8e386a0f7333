"""Two models' answers to the same samples: the difference of a figure, and how far it could be from that."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score, root_mean_squared_error

from mlctl.metrics.paired import tango_interval
from mlctl.metrics.resampling import draws
from mlctl.tasks.image_classification import ImageClassification
from mlctl.tasks.pairing import BOOTSTRAP_SEED, metric_difference
from mlctl.tasks.regression import Regression

SAMPLES = 120


def classifiers() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Probabilities [120, 3] of a good and a worse classifier, and the true classes."""
    dice = np.random.default_rng(8)
    targets = dice.integers(0, 3, SAMPLES)
    shared = dice.normal(0, 1, (SAMPLES, 3))

    def answers(skill: float) -> npt.NDArray[np.float32]:
        shares = np.exp(shared + dice.normal(0, 1.5, (SAMPLES, 3)) + skill * np.eye(3)[targets])
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)

    return answers(2.5), answers(1.2), targets


def test_a_difference_of_accuracies_has_tangos_interval_and_mcnemars_test() -> None:
    good, worse, targets = classifiers()
    found = metric_difference(ImageClassification(), "accuracy", (good, worse), targets, 0.9)
    right = [answers.argmax(axis=1) == targets for answers in (good, worse)]
    first, second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert first > second > 0
    assert found.estimate == pytest.approx((first - second) / SAMPLES, abs=1e-12)
    tango = tango_interval(first, second, SAMPLES, 0.9)
    assert found.interval.low <= tango.low < found.estimate < tango.high <= found.interval.high
    assert found.test is not None
    assert found.test.p_value == pytest.approx(binomtest(first, first + second).pvalue)


def test_exchanging_the_models_mirrors_the_difference() -> None:
    good, worse, targets = classifiers()
    one = metric_difference(ImageClassification(), "accuracy", (good, worse), targets, 0.95)
    other = metric_difference(ImageClassification(), "accuracy", (worse, good), targets, 0.95)
    assert (one.estimate, one.interval.low) == pytest.approx((-other.estimate, -other.interval.high), abs=1e-12)


def test_other_differences_are_bootstrapped_in_pairs() -> None:
    good, worse, targets = classifiers()
    found = metric_difference(ImageClassification(), "f1", (good, worse), targets, 0.9)

    def f1(answers: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> float:
        chosen = answers[rows].argmax(axis=1)
        return float(f1_score(targets[rows], chosen, labels=[0, 1, 2], average="macro", zero_division=0))

    everything = np.arange(SAMPLES)
    assert found.test is None
    assert found.estimate == pytest.approx(f1(good, everything) - f1(worse, everything))
    rows = np.concatenate(list(draws(SAMPLES, seed=BOOTSTRAP_SEED)))[:400]
    low, high = np.quantile([f1(good, each) - f1(worse, each) for each in rows], [0.05, 0.95])
    # 400 of the 2,000 draws know their own 5 % quantile to about a tenth of the interval's width.
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_pairing_narrows_the_interval_of_models_that_err_alike() -> None:
    dice = np.random.default_rng(3)
    targets = dice.normal(0, 1, 300).astype(np.float32)
    shared = dice.normal(0, 1, 300)
    first, second = ((targets + scale * shared).astype(np.float32) for scale in (1.0, 1.1))
    found = metric_difference(Regression(), "rmse", (first, second), targets, 0.95)
    expected = root_mean_squared_error(targets, first) - root_mean_squared_error(targets, second)
    assert found.estimate == pytest.approx(expected, rel=1e-5)
    assert found.interval.high < 0
    (alone,) = Regression().measure(("rmse",), first, targets, 0.95)
    assert found.interval.high - found.interval.low < 0.2 * (alone.high - alone.low)


def test_a_model_does_not_differ_from_itself() -> None:
    good, _, targets = classifiers()
    for metric in ("accuracy", "log_loss"):
        found = metric_difference(ImageClassification(), metric, (good, good), targets, 0.95)
        assert found.estimate == 0
        assert found.interval.low <= 0 <= found.interval.high
