"""Moments gathered in batches against NumPy over everything at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlctl.data.statistics import Moments, class_counts

tables = st.integers(1, 3).flatmap(
    lambda width: st.lists(
        arrays(np.float32, st.tuples(st.integers(0, 8), st.just(width)), elements=st.floats(-1e6, 1e6, width=32)),
        min_size=1,
        max_size=6,
    )
)


@given(tables)
def test_moments_of_batches_are_the_moments_of_all_rows(
    batches: list[np.ndarray[tuple[int, int], np.dtype[np.float32]]],
) -> None:
    moments = Moments(batches[0].shape[1])
    for batch in batches:
        moments.add(batch)
    rows = np.concatenate(batches).astype(np.float64)
    if not len(rows):
        assert moments.count == 0
        return
    names = tuple(map(str, range(rows.shape[1])))
    found = np.array([(s.mean, s.deviation, s.minimum, s.maximum) for s in moments.summaries(names)])
    expected = np.array([rows.mean(axis=0), rows.std(axis=0), rows.min(axis=0), rows.max(axis=0)]).T
    # Both sides round in float64; the values reach 1e6, so an error of 1e-9 is a few units in the last place.
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


def test_digits_survive_a_large_offset() -> None:
    """Deviation 1 around 10 million, where float64 sums of squares keep two digits of it.

    The mean of a batch is rounded to 2e-9 there, and so is its distance from the other batches' mean; nothing else is.
    """
    values = (1e7 + np.random.default_rng(0).normal(size=10_000)).astype(np.float32)
    moments = Moments(1)
    for batch in np.array_split(values, 37):
        moments.add(batch)
    assert moments.deviation[0] == pytest.approx(values.astype(np.float64).std(), rel=2e-9)


def test_channels_are_summed_over_height_and_width() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    moments = Moments(3)
    moments.add(images[:20])
    moments.add(images[20:])
    assert moments.count == 50 * 4 * 5
    np.testing.assert_allclose(moments.mean, images.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(moments.deviation, images.std(axis=(0, 2, 3)), rtol=1e-13)


def test_equal_values_deviate_by_exactly_nothing() -> None:
    moments = Moments(1)
    for _ in range(10):
        moments.add(np.full(7, 0.1, dtype=np.float32))
    assert moments.deviation[0] == 0


def test_classes_without_rows_are_counted_too() -> None:
    counts = class_counts(np.array([0, 2, 2, 0]), ("a", "b", "c"))
    assert [(each.label, each.rows, each.share) for each in counts] == [("a", 2, 0.5), ("b", 0, 0.0), ("c", 2, 0.5)]
