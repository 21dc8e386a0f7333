"""Which rows are learnt from, steer, and measure."""

from collections.abc import Sequence
from math import floor

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import UNASSIGNED
from mlctl.errors import DataError
from mlctl.recipe.prepare import SPLITS, SplitByFiles, SplitByShare, SplitSettings

TRAIN, VALIDATION = SPLITS.index("train"), SPLITS.index("validation")


def split_rows(
    settings: SplitSettings,
    given: NDArray[np.int8],
    classes: NDArray[np.int64] | None,
    labels: Sequence[str],
    seed: int,
) -> NDArray[np.int8]:
    """The split of every row, int8 [rows] indices of SPLITS; the same for the same arguments.

    `given` [rows] is what the source says of each row, UNASSIGNED where it says nothing; `classes` [rows] are positions
    in `labels`, None for a target without classes.

    Raises DataError where a split ends up empty, or where a class to be dealt out evenly has fewer rows than splits.
    """
    if isinstance(settings, SplitByShare):
        shares = {SPLITS.index(name): float(getattr(settings, name)) for name in SPLITS}
        chosen = _deal(given == UNASSIGNED, shares, classes if settings.stratify else None, labels, seed)
    elif isinstance(settings, SplitByFiles) and settings.files.validation is None:
        shares = {TRAIN: 1 - settings.validation, VALIDATION: settings.validation}
        dealt = _deal(given == TRAIN, shares, classes if settings.stratify else None, labels, seed)
        chosen = np.where(given == TRAIN, dealt, given).astype(np.int8)
    else:
        chosen = given
    for index, name in enumerate(SPLITS):
        if not (chosen == index).any():
            raise DataError(f"the {name} split has no rows", next="give it rows, or a larger share of them")
    return chosen


def sizes(count: int, shares: NDArray[np.float64], owed: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of `count` rows each share gets, int64 [shares]: the exact part rounded down or up, `count` in all.

    The method of largest remainders (Hamilton), except that `owed` [shares], what earlier calls rounded away, is
    added to the remainders, so that roundings do not pile up in one share.
    """
    # 0.15 * 20 is a little less than 3 in floating point; nobody wants it rounded down to 2.
    exact = np.round(count * shares, 9)
    result = np.array([floor(each) for each in exact], dtype=np.int64)
    remainders = exact - result
    by_claim = np.argsort(-np.where(remainders > 0, remainders + owed, -np.inf), kind="stable")
    result[by_claim[: count - int(result.sum())]] += 1
    return result


def _deal(
    rows: NDArray[np.bool_],
    shares: dict[int, float],
    classes: NDArray[np.int64] | None,
    labels: Sequence[str],
    seed: int,
) -> NDArray[np.int8]:
    """A split for each of the chosen `rows` [rows], UNASSIGNED for the others."""
    generator = np.random.Generator(np.random.PCG64(seed))
    chosen = np.full(len(rows), UNASSIGNED, dtype=np.int8)
    names, parts = np.array(list(shares), dtype=np.int8), np.array(list(shares.values()))
    owed = np.zeros(len(parts))
    for group in _groups(rows, classes, labels, len(parts)):
        counts = sizes(len(group), parts, owed)
        owed += len(group) * parts - counts
        chosen[generator.permutation(group)] = np.repeat(names, counts)
    return chosen


def _groups(
    rows: NDArray[np.bool_], classes: NDArray[np.int64] | None, labels: Sequence[str], fewest: int
) -> list[NDArray[np.intp]]:
    """The positions of the chosen rows, all together or class by class."""
    if classes is None:
        return [np.flatnonzero(rows)]
    positions = np.flatnonzero(rows)
    by_class = positions[np.argsort(classes[positions], kind="stable")]
    counts = np.bincount(classes[positions], minlength=len(labels))
    short = [f"{label!r} ({count})" for label, count in zip(labels, counts, strict=True) if 0 < count < fewest]
    if short:
        raise DataError(
            f"stratify needs {fewest} rows of every class, one for each split; too few of {', '.join(short[:5])}",
            next="gather more rows of the class, leave it out, or set `stratify: false`",
        )
    return np.split(by_class, np.cumsum(counts)[:-1])
