"""Figures of a classifier's answers.

Shapes: N samples, C classes, R resamples. Probabilities are finite float32 or float64 [N, C], targets int64 [N] in
0..C-1. The answer to a sample is its most probable class, the lowest of equals.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Probabilities: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Booleans: TypeAlias = npt.NDArray[np.bool_]
Resampler: TypeAlias = Callable[[Integers], Floats]
"""Numbers of samples int64 [R, N] in, a figure of every row out, float64 [R]."""

_TOP_K = re.compile(r"top_([1-9][0-9]*)_accuracy")
_MACRO = {"precision": "precision_score", "recall": "recall_score", "f1": "f1_score"}
"""Figures that scikit-learn computes, which is imported once one is asked for: it takes a second to load."""


def is_rate(name: str) -> bool:
    """True for figures that are the share of samples answered rightly: accuracy and top_<k>_accuracy."""
    return name == "accuracy" or _TOP_K.fullmatch(name) is not None


def right_answers(name: str, probabilities: Probabilities, targets: Integers) -> Booleans:
    """Which samples are right, bool [N]: for `top_<k>_accuracy` the target is among the k most probable classes.

    Equal probabilities rank by class number, so that `top_1_accuracy` is `accuracy`.
    Raises ValueError for a figure that is no such rate.
    """
    allowed = 1 if name == "accuracy" else _top_k(name)
    own = np.take_along_axis(probabilities, targets[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < targets[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1)
    return np.asarray(rank < allowed)


def log_losses(probabilities: Probabilities, targets: Integers) -> Floats:
    """-ln of the target's probability for every sample, float64 [N].

    Probabilities are clipped to [eps, 1 - eps] of their own dtype, as scikit-learn's `log_loss` does.
    """
    eps = np.finfo(probabilities.dtype).eps
    own = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.clip(own, eps, 1 - eps), dtype=np.float64))


def classification_figure(name: str, probabilities: Probabilities, targets: Integers) -> float:
    """The figure `name`: accuracy, top_<k>_accuracy, precision, recall, f1 or log_loss (natural logarithm).

    precision, recall and f1 are plain means over all C classes; a class with nothing to divide by counts as 0.
    Raises ValueError for another name.
    """
    if name in _MACRO:
        classes = np.arange(probabilities.shape[1])
        predicted = probabilities.argmax(axis=1)
        from sklearn import metrics

        figure = getattr(metrics, _MACRO[name])
        return float(figure(targets, predicted, labels=classes, average="macro", zero_division=0))
    return float(_values(name, probabilities, targets).mean())


def confusion(probabilities: Probabilities, targets: Integers) -> Integers:
    """How often a class (row) was answered as a class (column), int64 [C, C]."""
    classes = probabilities.shape[1]
    pairs = targets * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def classification_resampler(name: str, probabilities: Probabilities, targets: Integers) -> Resampler:
    """A function that gives `classification_figure` of resamples: int64 [R, N] numbers of samples to float64 [R].

    What does not depend on the resample is computed once, here. Raises ValueError as `classification_figure` does.
    """
    if name not in _MACRO:
        values = _values(name, probabilities, targets)
        return lambda indices: np.asarray(values[indices].mean(axis=1))
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    wrong = classes
    right = np.where(predicted == targets, targets, wrong)

    def figures(indices: Integers) -> Floats:
        hits = _tallies(right, indices, classes + 1)[:, :classes]
        parts = _tallies(predicted, indices, classes), _tallies(targets, indices, classes)
        numerator, denominator = _fraction(name, hits, *parts)
        return np.asarray((numerator / np.maximum(denominator, 1)).mean(axis=1))

    return figures


def _top_k(name: str) -> int:
    match = _TOP_K.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a figure of a classifier that counts right answers")
    return int(match[1])


def _values(name: str, probabilities: Probabilities, targets: Integers) -> Floats:
    if name == "log_loss":
        return log_losses(probabilities, targets)
    return right_answers(name, probabilities, targets).astype(np.float64)


def _tallies(classes: Integers, indices: Integers, count: int) -> Integers:
    rows = np.arange(len(indices))[:, None] * count
    keys = (classes[indices] + rows).ravel()
    return np.bincount(keys, minlength=len(indices) * count).reshape(len(indices), count)


def _fraction(name: str, hits: Integers, predicted: Integers, actual: Integers) -> tuple[Integers, Integers]:
    if name == "precision":
        return hits, predicted
    if name == "recall":
        return hits, actual
    return 2 * hits, predicted + actual
