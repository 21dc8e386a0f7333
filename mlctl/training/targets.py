"""Whether what is to be predicted can be learnt at all: looked at once, before a training begins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlctl.errors import DataError
from mlctl.training.batches import Samples

CHUNK = 1 << 22
"""Numbers that are looked at together."""
NEXT = "make the data again; `mlctl run --force prepare` does"


def require_learnable(samples: Samples, outputs: int, split: str) -> None:
    """Raise DataError where a class is none of `outputs`, a token is none of that many, or a number is not finite.

    The message names the split and the first such row, by its number in the source.
    """
    values = samples.targets if samples.stream is None else samples.stream
    for start in range(0, len(values), CHUNK):
        chunk = np.asarray(values[start : start + CHUNK])
        bad = _bad(chunk, outputs)
        if bad.any():
            place = int(np.flatnonzero(bad.reshape(len(chunk), -1).any(axis=1))[0])
            found = chunk[place][bad[place]].flat[0] if chunk.ndim > 1 else chunk[place]
            named = _named(samples, start + place, split)
            raise DataError(f"{named} is {found}, {_wanted(chunk, outputs)}", next=NEXT)


def _bad(values: NDArray[Any], outputs: int) -> NDArray[np.bool_]:
    if np.issubdtype(values.dtype, np.floating):
        is_finite: NDArray[np.bool_] = np.isfinite(values)
        return ~is_finite
    if not values.size or (values.min() >= 0 and values.max() < outputs):
        return np.zeros(values.shape, bool)
    bad: NDArray[np.bool_] = (values < 0) | (values >= outputs)
    return bad


def _named(samples: Samples, place: int, split: str) -> str:
    if samples.stream is not None:
        return f"token {place} of the {split} split"
    row = place if samples.rows is None else int(samples.rows[place])
    return f"the target of row {row} of the source (counted from 0, in the {split} split)"


def _wanted(values: NDArray[Any], outputs: int) -> str:
    if np.issubdtype(values.dtype, np.floating):
        return "which is not a finite number"
    return f"and the model has outputs for 0 to {outputs - 1}"
