"""Splits: a partition, of the right sizes, the same every time."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlctl.data.batches import UNASSIGNED
from mlctl.data.splitting import sizes, split_rows
from mlctl.errors import DataError
from mlctl.recipe.prepare import SplitByColumn, SplitByFiles, SplitByShare, SplitFiles

shares = (
    st.tuples(st.integers(5, 90), st.integers(5, 90))
    .filter(lambda pair: sum(pair) < 96)
    .map(lambda pair: SplitByShare(train=pair[0] / 100, validation=pair[1] / 100, test=(100 - sum(pair)) / 100))
)


def share_of(settings: SplitByShare) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([settings.train, settings.validation, settings.test])


@given(shares, st.integers(40, 500), st.integers(0, 2**63 - 1))
def test_every_row_lands_in_one_split_and_sizes_are_within_one_of_the_shares(
    settings: SplitByShare, count: int, seed: int
) -> None:
    chosen = split_rows(settings, np.full(count, UNASSIGNED, dtype=np.int8), None, (), seed)
    found = np.bincount(chosen, minlength=3)
    assert len(found) == 3
    assert (abs(found - count * share_of(settings)) < 1).all()


@given(shares, st.lists(st.integers(3, 40), min_size=1, max_size=12), st.integers(0, 1000))
def test_stratified_sizes_are_within_one_of_the_shares_in_every_class(
    settings: SplitByShare, counts: list[int], seed: int
) -> None:
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    labels = tuple(map(str, range(len(counts))))
    stratified = settings.model_copy(update={"stratify": True})
    assume(sum(counts) * share_of(settings).min() >= 2)
    chosen = split_rows(stratified, np.full(len(classes), UNASSIGNED, dtype=np.int8), classes, labels, seed)
    for index, count in enumerate(counts):
        found = np.bincount(chosen[classes == index], minlength=3)
        assert found.sum() == count
        assert (abs(found - count * share_of(settings)) < 1).all()


def test_roundings_of_many_small_classes_do_not_starve_a_split() -> None:
    """Five rows of each class at 80, 10 and 10 percent: half a row each, which must not always go to validation."""
    classes = np.repeat(np.arange(20), 5)
    settings = SplitByShare(train=0.8, validation=0.1, test=0.1, stratify=True)
    chosen = split_rows(settings, np.full(100, UNASSIGNED, dtype=np.int8), classes, tuple("abcdefghijklmnopqrst"), 0)
    assert np.bincount(chosen).tolist() == [80, 10, 10]


@given(st.integers(0, 10**6), shares)
def test_largest_remainders_give_every_row_away(count: int, settings: SplitByShare) -> None:
    found = sizes(count, share_of(settings), np.zeros(3))
    assert found.sum() == count
    assert (abs(found - count * share_of(settings)) < 1 + 1e-6).all()


def test_whole_quotas_are_met_exactly() -> None:
    """0.15 × 20 is 2.9999… in floating point."""
    assert sizes(20, np.array([0.7, 0.15, 0.15]), np.zeros(3)).tolist() == [14, 3, 3]


def test_the_seed_decides_and_nothing_else() -> None:
    given_splits = np.full(50, UNASSIGNED, dtype=np.int8)
    one, again, other = (split_rows(SplitByShare(), given_splits, None, (), seed) for seed in (7, 7, 8))
    assert (one == again).all()
    assert (one != other).any()


def test_a_split_never_moves_by_accident() -> None:
    chosen = split_rows(SplitByShare(train=0.5, validation=0.25, test=0.25), np.full(12, -1, np.int8), None, (), 7)
    assert "".join("tvx"[split] for split in chosen) == "ttvttxtvvxtx"


def test_a_share_of_the_train_files_becomes_validation() -> None:
    settings = SplitByFiles(files=SplitFiles(train=("a.csv",), test=("b.csv",)), validation=0.25)
    given_splits = np.array([0] * 40 + [2] * 10, dtype=np.int8)
    chosen = split_rows(settings, given_splits, None, (), 3)
    assert np.bincount(chosen).tolist() == [30, 10, 10]
    assert (chosen[40:] == 2).all()


def test_a_split_without_rows_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="the validation split has no rows"):
        split_rows(SplitByColumn(column="s"), np.array([0, 0, 2], dtype=np.int8), None, (), 0)


def test_a_class_with_fewer_rows_than_splits_is_named() -> None:
    classes = np.array([0] * 30 + [1] * 2)
    with pytest.raises(DataError, match=r"too few of 'rare' \(2\)"):
        split_rows(SplitByShare(stratify=True), np.full(32, UNASSIGNED, np.int8), classes, ("often", "rare"), 0)
