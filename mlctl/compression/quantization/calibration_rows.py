"""Which rows of the train split a calibration looks at."""

import numpy as np
import numpy.typing as npt

from mlctl.data.splitting import sizes


def calibration_rows(
    rows: int, samples: int, seed: int, classes: npt.NDArray[np.integer] | None = None
) -> npt.NDArray[np.int64]:
    """`samples` of `rows` row numbers, each at most once, int64 ascending; all where there are no more.

    With `classes`, integers [rows], every class gets its share of the samples (largest remainders), so that a range
    is not found without the values of a rare one. The same for the same arguments.
    """
    if samples >= rows:
        return np.arange(rows)
    random = np.random.default_rng(seed)
    if classes is None:
        return np.sort(random.choice(rows, samples, replace=False))
    _, members = np.unique(classes, return_inverse=True)
    counts = np.bincount(members)
    taken = sizes(samples, counts / rows, np.zeros(len(counts)))
    chosen = [
        random.choice(np.flatnonzero(members == number), count, replace=False) for number, count in enumerate(taken)
    ]
    return np.sort(np.concatenate(chosen))
