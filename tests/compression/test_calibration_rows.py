"""Rows are drawn once each, every class with its share, and the same ones each time."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from mlctl.compression.quantization.calibration_rows import calibration_rows

CLASSES = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(st.integers(1, 200), st.integers(1, 250), st.integers(0, 5))
def test_rows_are_ascending_and_drawn_once_each(rows: int, samples: int, seed: int) -> None:
    found = calibration_rows(rows, samples, seed)
    assert found.dtype == np.int64
    assert len(found) == min(rows, samples)
    assert (np.diff(found) > 0).all()
    assert found[0] >= 0
    assert found[-1] < rows
    np.testing.assert_array_equal(found, calibration_rows(rows, samples, seed))


@given(CLASSES, st.integers(1, 70), st.integers(0, 5))
def test_every_class_has_its_share(classes: npt.NDArray[Any], samples: int, seed: int) -> None:
    found = calibration_rows(len(classes), samples, seed, classes)
    assert len(found) == min(len(classes), samples)
    assert (np.diff(found) > 0).all()
    for kind in np.unique(classes):
        # Largest remainders: no share is off by a whole row.
        share = min(1, samples / len(classes)) * (classes == kind).sum()
        assert abs((classes[found] == kind).sum() - share) < 1


def test_rows_depend_on_the_seed() -> None:
    draws = [tuple(calibration_rows(1000, 50, seed)) for seed in range(5)]
    assert len(set(draws)) == 5


def test_rows_come_from_the_whole_split() -> None:
    found = np.concatenate([calibration_rows(1000, 100, seed) for seed in range(20)])
    # 2,000 draws over ten tenths: 200 each, with a standard deviation below 14.
    counts = np.bincount(found // 100, minlength=10)
    assert counts.min() > 130
    assert counts.max() < 270
