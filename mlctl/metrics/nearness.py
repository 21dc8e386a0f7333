"""Figures of how near a model's answers lie to another model's, row by row.

Shapes: N samples, D numbers of one answer, R resamples.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Resampler: TypeAlias = Callable[[Integers], Floats]

NEARNESS_FIGURES = ("cosine", "worst_cosine")

_CHUNK_NUMBERS = 1 << 20
"""Numbers of the answers that are turned into float64 at once (8 MiB)."""


def cosine_similarities(answers: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Floats:
    """The cosine of the angle between each row of `answers` [N, ...] and that of `targets` [N, ...], float64 [N].

    Rows are flattened. Equal rows give exactly 1, two rows of zeros too; one row of zeros gives 0. Raises ValueError
    where the shapes differ.
    """
    if answers.shape != targets.shape:
        raise ValueError(f"answers of shape {list(answers.shape)} have no angle to those of {list(targets.shape)}")
    found = np.empty(len(answers))
    width = max(1, answers[:1].size)
    size = max(1, _CHUNK_NUMBERS // width)
    for start in range(0, len(answers), size):
        chosen = slice(start, start + size)
        found[chosen] = _cosines(
            np.asarray(answers[chosen], np.float64).reshape(-1, width),
            np.asarray(targets[chosen], np.float64).reshape(-1, width),
        )
    return found


def nearness_figure(name: str, answers: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
    """The figure `name`: the mean over rows of `cosine`, or the smallest, `worst_cosine`.

    Raises ValueError for another name.
    """
    _check(name)
    cosines = cosine_similarities(answers, targets)
    return float(cosines.mean() if name == "cosine" else cosines.min())


def nearness_resampler(name: str, answers: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Resampler:
    """A function that gives `nearness_figure` of resamples: int64 [R, N] numbers of samples to float64 [R].

    No resample holds a row that is worse than the worst one, so an interval of `worst_cosine` begins at the figure.
    """
    _check(name)
    cosines = cosine_similarities(answers, targets)
    if name == "cosine":
        return lambda indices: np.asarray(cosines[indices].mean(axis=1))
    return lambda indices: np.asarray(cosines[indices].min(axis=1))


def _cosines(first: Floats, second: Floats) -> Floats:
    products, squares = (first * second).sum(axis=1), (first * first).sum(axis=1) * (second * second).sum(axis=1)
    are_zeros = ~first.any(axis=1) & ~second.any(axis=1)
    # The root of an exact square is exact in IEEE 754, so equal rows come to 1 and not to a rounding beside it.
    found = np.divide(products, np.sqrt(squares), out=np.zeros(len(first)), where=squares > 0)
    return np.where(are_zeros, 1.0, np.clip(found, -1, 1))


def _check(name: str) -> None:
    if name not in NEARNESS_FIGURES:
        raise ValueError(f"{name!r} is not one of {', '.join(NEARNESS_FIGURES)}")
