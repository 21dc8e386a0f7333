"""What a sample's loss counts by its class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlctl.errors import UsageError

NAMED_LABELS = 10


def class_weights(
    asked: Literal["balanced"] | Sequence[float], targets: NDArray[np.int64], labels: Sequence[str]
) -> NDArray[np.float64]:
    """One weight for every label, in their order, float64 [C], whose mean over the class numbers `targets` [N] is 1.

    `balanced` is samples / (classes × samples of the class), as King & Zeng 2001 and scikit-learn have it; a class
    without samples has 0. Raises UsageError where there are not as many numbers as labels.
    """
    counts = np.bincount(targets, minlength=len(labels)).astype(np.float64)
    if asked == "balanced":
        weights = np.divide(counts.sum(), len(labels) * counts, out=np.zeros_like(counts), where=counts > 0)
    else:
        if len(asked) != len(labels):
            raise UsageError(
                f"class_weights has {len(asked)} numbers, and the data {len(labels)} labels: {_listed(labels)}",
                next="write one number for every label, in this order, or `balanced`",
            )
        weights = np.asarray(asked, np.float64)
    scaled: NDArray[np.float64] = weights * (counts.sum() / (weights * counts).sum())
    return scaled


def _listed(labels: Sequence[str]) -> str:
    named = ", ".join(map(repr, labels[:NAMED_LABELS]))
    return named if len(labels) <= NAMED_LABELS else f"{named} and {len(labels) - NAMED_LABELS} more"
